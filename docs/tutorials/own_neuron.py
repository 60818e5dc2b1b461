# %% [markdown]
# # own_neuron
