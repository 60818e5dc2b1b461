"""How a simulation ended."""

import equinox as eqx


class RESULTS(eqx.Enumeration):
    """How the simulation of a sample ended; each message names the remedy.

    Compare with `==`; look the message up with `RESULTS[result]`.
    """

    successful = ""
    max_spikes_reached = (
        "A neuron emitted more spikes than `max_spikes`, and the later ones were not recorded. "
        "Raise `max_spikes`; `Solution.stats` holds the number of spikes."
    )
    max_steps_reached = (
        "The simulation stopped before `t1`, as it had used up `max_steps`: iterations of the event loop, or, where no "
        "solver is needed, spikes of a neuron. "
        "Raise `max_steps`: long simulations, many spikes, float64 and small tolerances need more of them. "
        "If it is large already, look for a neuron that spikes without end."
    )
    unsettled = (
        "The spikes of layers that listen to each other still changed after `max_steps` sweeps over a window of time. "
        "Raise `windows`, or give their connections a delay: without any, spikes may cause each other at one instant."
    )
    step_too_small = (
        "The solver's step shrank below what the float type can resolve: the dynamics diverge or are too stiff. "
        "Check `dynamics` and the parameters, raise `rtol` and `atol`, choose an implicit `solver`, or use float64."
    )
    not_finite = (
        "A state became infinite or NaN. "
        "Look for weights, parameters and initial states that are not finite, or too large."
    )
    source_failed = (
        "A layer that this one receives from failed in this sample, or one of its recurrent group: "
        "what this layer received is incomplete. Look at the result of that layer first."
    )
    invalid_parameters = (
        "A parameter of the layer, or of a connection to it, is not what it must be, as after too long a step of an "
        "optimiser, and nothing was simulated. With `throw=True` the error names it. `sx.Positive` keeps one positive."
    )
    invalid_times = (
        "An input spike lies before `t0` or is NaN. Shift the `inputs`, or choose an earlier `t0`. "
        "Or `t1` lies before `t0`, or a time of `saveat` not between them."
    )
