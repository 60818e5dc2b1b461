# %% [markdown]
# # delays_and_recurrence
