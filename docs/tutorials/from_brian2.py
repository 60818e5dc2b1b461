# %% [markdown]
# # from_brian2
