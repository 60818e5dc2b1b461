"""An independent simulation of a few LIF neurons, from event to event, in extended precision."""

import dataclasses
import heapq

import numpy as np


Real = np.longdouble


@dataclasses.dataclass(frozen=True)
class Model:
    """Neurons of one kind behind exponential synapses, their inputs, and how they reach each other."""

    tau_mem: float
    tau_syn: float
    bias: float
    v_reset: float
    w_in: np.ndarray  # (neurons,)
    w_rec: np.ndarray  # (neurons, neurons)
    delay: float
    times: np.ndarray  # (spikes,)
    t1: float


@dataclasses.dataclass
class Run:
    """The spikes of each neuron, and how clear they are."""

    spikes: list  # of each neuron: pairs of time and slope of the voltage there
    margin: float = np.inf  # the smallest distance from the threshold by which a decision was made
    apart: float = np.inf  # the shortest time between the spikes of two neurons


def simulate(model: Model, most: int) -> Run:
    """Until `t1`, or until a neuron has spiked more than `most` times."""
    n = len(model.w_in)
    tm, ts, bias = Real(model.tau_mem), Real(model.tau_syn), Real(model.bias)
    w_rec, w_in = model.w_rec.astype(Real), model.w_in.astype(Real)
    run = Run([[] for _ in range(n)])
    queue = [(Real(t), k, w_in) for k, t in enumerate(model.times) if t <= model.t1]
    heapq.heapify(queue)
    order = len(queue)
    t, v, x = Real(0), np.zeros(n, Real), np.zeros(n, Real)

    def moved(s):
        slow, fast = np.exp(-s / tm), np.exp(-s / ts)
        both = s / tm * slow if tm == ts else ts / (tm - ts) * (slow - fast)
        return bias + (v - bias) * slow + x * both, x * fast

    while True:
        end = min(queue[0][0] if queue else Real(model.t1), Real(model.t1))
        found = [_crossing(lambda s, i=i: moved(s)[0][i], v[i], x[i], tm, ts, bias, end - t, run) for i in range(n)]
        happens = [s for s in found if s is not None]
        if not happens and end == model.t1 and not (queue and queue[0][0] == end):
            return run
        s = min(happens) if happens else end - t
        # Reals of an arrival are not moved, or it would come at another time than it says.
        after, currents = moved(s)
        t = t + s if happens else end
        v, x = after, currents
        if not happens:
            _, _, weight = heapq.heappop(queue)
            x = x + weight
            continue
        who = found.index(s)
        others = [float(other - s) for j, other in enumerate(found) if j != who and other is not None]
        run.apart = min([run.apart, *others])
        run.spikes[who].append((float(t), float((bias - v[who] + x[who]) / tm)))
        if len(run.spikes[who]) > most:
            return run
        v[who] = Real(model.v_reset)
        if model.delay == 0.0:
            x = x + w_rec[who]
        elif np.any(w_rec[who] != 0):
            heapq.heappush(queue, (t + Real(model.delay), order, w_rec[who]))
            order += 1


def _crossing(voltage, v, x, tm, ts, bias, h, run):
    """When the voltage rises through one within h; None where it does not."""
    slope = bias - v + x  # times tm
    # It turns where slope exp(-s/tm) = tm x (exp(-s/ts) - exp(-s/tm)) / (ts - tm), in the same sign.
    low, high = Real(0), h
    turn = _turn(slope, x, tm, ts)
    if turn is not None and turn < h:
        low, high = (Real(0), turn) if slope > 0 else (turn, h)
    elif slope <= 0:
        return None
    top = voltage(high) - 1
    run.margin = min(run.margin, float(abs(top)))
    if top < 0:
        return None
    for _ in range(80):
        middle = (low + high) / 2
        if voltage(middle) >= 1:
            high = middle
        else:
            low = middle
    return high


def _turn(slope, x, tm, ts):
    # d/ds of the slope exp(s/tm) is -x exp(s/tm - s/ts) tm/ts per tm, so that it vanishes once at most.
    if x == 0 or slope == 0 or (slope > 0) != (x > 0):
        return None
    ratio = slope * ts / x  # the integral of exp(-a s), with a = 1/ts - 1/tm, up to the turn
    a = 1 / ts - 1 / tm
    y = a * ratio
    if a == 0:
        return ratio
    return None if y >= 1 else -np.log1p(-y) / a
