# %% [markdown]
# # from_snntorch
