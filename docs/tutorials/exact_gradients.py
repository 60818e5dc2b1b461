# %% [markdown]
# # exact_gradients
