# %% [markdown]
# # from_eventax
