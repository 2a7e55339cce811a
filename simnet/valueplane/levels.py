"""The order in which scattered operations can run together: each after the last one on its rows.

Legend: n hosts, T records, O operations.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs

from __future__ import annotations

from simnet.jit import kept


@kept
def operations(host_T, what_T, next_n, open_n, host_O, other_O, from_O, to_O):
    """Records as operations in their order; returns how many there are.

    A record is (host, task number to run up to) or (host, -1 - partner). Runs of one host with no meeting of its in
    between become one operation. `next_n` is each host's next task (kept up to date), `open_n` is work space.
    """
    count = 0
    open_n[:] = -1
    for t in range(len(host_T)):
        i, what = host_T[t], what_T[t]
        if what < 0:
            host_O[count], other_O[count] = i, -1 - what
            from_O[count] = to_O[count] = -1
            open_n[i] = open_n[-1 - what] = -1
            count += 1
        elif what != next_n[i]:
            if open_n[i] < 0:
                open_n[i] = count
                host_O[count], other_O[count], from_O[count] = i, -1, next_n[i]
                count += 1
            to_O[open_n[i]] = what
            next_n[i] = what
    return count


@kept
def levels(count, base, heavy, public, waves, last, host_O, other_O, from_O, to_O, level_O):
    """Cut runs where their oracles end, and give every operation its level; returns how many there are then.

    The first `count` operations are read from the arrays' ends and written to their beginnings. Of the tasks from
    `base` on, `heavy[t]` is one more than the last oracle before task t and `public[t]` the first task from t on that
    touches what is published. Oracles are the heavy part: a run's tasks up to its last oracle, where they touch
    nothing published, are an operation of their own.

    Levels are pairs, wave * 2^32 + place: an oracle opens a new wave after all that it rests on, and what is light
    finds its place within a wave. So oracles, which rest on one another only over a node's computing time, come
    together in large batches, however long the chains of meetings between them. `waves` and `last` (n,) are the levels
    of the last operation on a host's own values, and on what it has published.
    """
    waves[:] = 0
    last[:] = 0
    out = 0
    for o in range(len(host_O) - count, len(host_O)):
        i, j, a, b = host_O[o], other_O[o], from_O[o], to_O[o]
        if j >= 0:
            level = max(last[i], last[j]) + 1
            last[i] = last[j] = level
            host_O[out], other_O[out], from_O[out], to_O[out], level_O[out] = i, j, -1, -1, level
            out += 1
            continue
        c = heavy[b - base]
        if c > a and public[a - base] >= c:
            level = ((waves[i] >> 32) + 1) << 32
            waves[i] = level
            host_O[out], other_O[out], from_O[out], to_O[out], level_O[out] = i, -1, a, c, level
            out += 1
            a = c
        if a < b:
            level = max(waves[i], last[i]) + 1
            waves[i] = last[i] = level
            host_O[out], other_O[out], from_O[out], to_O[out], level_O[out] = i, -1, a, b, level
            out += 1
    return out


@kept
def last_reports(host_O, from_O, to_O, reports_before, base, count, seen_n, keep_O):
    """Mark, for each host, its last operation that makes a report: what earlier ones report nobody will ask for."""
    seen_n[:] = False
    for o in range(count - 1, -1, -1):
        keep_O[o] = False
        if from_O[o] >= 0 and reports_before[to_O[o] - base] > reports_before[from_O[o] - base]:
            keep_O[o] = not seen_n[host_O[o]]
            seen_n[host_O[o]] = True


@kept
def instances(host_O, from_O, to_O, keep_O, base, first_T, next_I, from_I, to_I, keep_I, instance_O):
    """Number the different (from, to, keep) among runs, in the order in which they come; returns how many there are.

    A meeting has number -1. `first_T`, one entry for each task kept, is work space: the newest of a task's instances,
    of which `next_I` leads to older ones.
    """
    first_T[:] = -1
    count = 0
    for o in range(len(host_O)):
        instance_O[o] = -1
        if from_O[o] < 0:
            continue
        k = first_T[from_O[o] - base]
        while k >= 0 and (to_I[k] != to_O[o] or keep_I[k] != keep_O[o]):
            k = next_I[k]
        if k < 0:
            k = count
            next_I[k], first_T[from_O[o] - base] = first_T[from_O[o] - base], k
            from_I[k], to_I[k], keep_I[k] = from_O[o], to_O[o], keep_O[o]
            count += 1
        instance_O[o] = k
    return count
