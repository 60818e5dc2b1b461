"""The event engine: units of neurons, each with its own clock. It knows `AbstractNeuron`, never a model."""
