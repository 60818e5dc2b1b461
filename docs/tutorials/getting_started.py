# %% [markdown]
# # getting_started
