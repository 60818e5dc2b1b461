# %% [markdown]
# # silent_networks
