# %% [markdown]
# # yin_yang
