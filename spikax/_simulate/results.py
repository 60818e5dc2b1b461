"""How a simulation ended."""

import equinox as eqx


class RESULTS(eqx.Enumeration):
    """How the simulation of a sample ended.

    Compare with `==`. `RESULTS[result]` is the message, which names the remedy.

    - `successful`: the sample is valid. All others are failures.
    - `max_spikes_reached`: a neuron emitted more spikes than `max_spikes`.
    - `max_steps_reached`: the method needed more than its `max_steps`.
    - `unsettled`: the spikes of a recurrent group still changed after `max_sweeps` of [`spikax.Windows`][].
    - `max_arrivals_reached`: more spikes arrived at a neuron at one time than [`spikax.Windows`][] has room for.
    - `step_too_small`: the dynamics diverge, or are too stiff for the solver.
    - `not_finite`: a state became infinite or NaN.
    - `source_failed`: a layer that this one receives from failed.
    - `invalid_parameters`: a parameter is outside its domain.
    - `invalid_times`: an input lies before `t0`, `t1` lies before `t0`, or a time of `saveat` is not between them.
    - `too_many_under_way`: at the end, more delayed spikes were under way than `Solution.end` has places for.
    """

    successful = ""
    max_spikes_reached = (
        "A neuron emitted more spikes than `max_spikes`, and the excess spikes were not recorded. "
        "Raise `max_spikes`. How many spikes there are, `Solution.stats` tells with `throw=False`."
    )
    max_steps_reached = (
        "The simulation stopped before `t1` because it reached `max_steps` of the method: trial steps of "
        "`sx.EventLoop`, spikes of a neuron for the other methods. "
        "Raise `max_steps`: long simulations, many spikes, float64 and small tolerances need more steps. "
        "If it is large already, check for a neuron that spikes without end."
    )
    unsettled = (
        "The spikes of a recurrent group still changed after `max_sweeps` sweeps over a window of time. "
        "Raise `count` of `sx.Windows`, or give the connections a delay: without delays, spikes may cause each other "
        "at the same time."
    )
    max_arrivals_reached = (
        "More spikes arrived at a neuron at the same time, or were under way to it, than there is room for. "
        "Raise `max_arrivals` of `sx.Windows`."
    )
    step_too_small = (
        "The solver's step became smaller than the float type can resolve: the dynamics diverge or are too stiff. "
        "Check `dynamics` and the parameters, raise `rtol` and `atol`, choose an implicit `solver`, or use float64."
    )
    not_finite = (
        "A state became infinite or NaN. "
        "Check for weights, parameters and initial states that are not finite or too large."
    )
    source_failed = (
        "A source layer, or another layer of the same recurrent group, failed in this sample: "
        "the input of this layer is incomplete. Check the result of that layer first."
    )
    invalid_parameters = (
        "A parameter of the layer, or of a connection to it, is outside its domain, for example after too large a step "
        "of an optimiser. Nothing was simulated. With `throw=True` the error names the parameter. `sx.Positive` keeps "
        "a parameter positive."
    )
    invalid_times = (
        "An input spike lies before `t0` or is NaN. Shift the `inputs`, or choose an earlier `t0`. "
        "Or `t1` lies before `t0`, or a time of `saveat` is not between them."
    )
    too_many_under_way = (
        "At the end, more spikes of a neuron were under way than `Solution.end` has places for. "
        "Raise `max_spikes`, or make each simulation longer than the longest delay."
    )


# The causes of failure. A later cause explains the earlier ones and takes precedence.
CAUSES = {
    "source_failed": RESULTS.source_failed,
    "unsettled": RESULTS.unsettled,
    "max_arrivals_reached": RESULTS.max_arrivals_reached,
    "max_spikes_reached": RESULTS.max_spikes_reached,
    "max_steps_reached": RESULTS.max_steps_reached,
    "step_too_small": RESULTS.step_too_small,
    "not_finite": RESULTS.not_finite,
    "too_many_under_way": RESULTS.too_many_under_way,
    "invalid_times": RESULTS.invalid_times,
    "invalid_parameters": RESULTS.invalid_parameters,
}
