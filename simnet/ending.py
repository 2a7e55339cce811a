"""What the record says of a whole run when it has ended: nodes, links, messages, and the summary."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from simnet.record import Record, first_reached

if TYPE_CHECKING:
    from simnet.simulation import Simulation


def finish(run: Simulation) -> Record:
    """Write links, nodes, messages, the picture's spans and the summary; the record of the run."""
    account, writer, network = run.account, run.writer, run.book.network
    by_link = account.ledger.by_link()
    numbered = all(isinstance(h, int) for h in network.node_names)
    names = network.node_names if numbered else [str(h) for h in network.node_names]
    ends = {"source": [names[i] for i in network.link_source], "target": [names[i] for i in network.link_target]}
    writer.links({**ends, **by_link})
    sent = np.bincount(network.link_source, by_link["wire_bytes"], len(names))[: network.n]
    received = np.bincount(network.link_target, by_link["wire_bytes"], len(names))[: network.n]
    writer.nodes(
        {
            "node": names[: network.n], "role": run.book.role_of().tolist(),
            "oracle": np.where(run.book.zo_n, "zo", "fo").tolist(), "compute_s": account.compute_s,
            "exposed_comm_s": account.comm_s, "idle_s": account.idle_s, "finish_s": account.finish_s,
            **_away(run), "reports": account.reports_n, "sent_bytes": sent, "received_bytes": received,
        }
    )  # fmt: skip
    if account.message_rows:
        writer.messages(
            [{**m, "source": names[m["source"]], "target": names[m["target"]]} for m in account.message_rows]
        )
    if account.spans:
        columns = [list(column) for column in zip(*account.spans, strict=True)]
        columns[0] = [names[i] for i in columns[0]]
        writer.spans(dict(zip(("node", "kind", "start_s", "end_s", "round"), columns, strict=True)))
    costs = run.book.costs
    if said := costs.notes():
        writer.describe(notes=[*run.plan.facts().get("notes", ()), *said])
    writer.describe(**costs.facts())
    writer.finish(run.outcome, _summary(run), run.final, text=run.text)
    return writer.record()


def _away(run: Simulation) -> dict[str, np.ndarray]:
    """Seconds that each node was away until it finished, where any is."""
    presence, end = run.book.presence, run.account.finish_s
    if not presence:
        return {}
    return {"away_s": np.array([end[i] - presence.there(i, 0.0, float(end[i])) for i in range(run.book.n)])}


def _summary(run: Simulation) -> dict[str, Any]:
    account, row = run.account, run.last_row
    host = time.perf_counter() - run.began
    skipped = {
        "round", "sim_time_s", "wire_bytes", "messages", "host_time_s", "nodes", "host_tensor_s", "gossip_rounds",
    }  # fmt: skip
    return {
        "sim_time_s": row.get("sim_time_s", float(account.finish_s.max())),
        "host_time_s": host,
        **_tensor_work(run),
        "rounds": row.get("round", 0),
        "wire_bytes": account.ledger.wire_bytes,
        "nominal_bits": account.ledger.nominal_bits,
        "messages": account.ledger.messages,
        "lost_messages": account.ledger.lost_messages,
        "bytes_by_kind": account.ledger.by_kind(),
        **({"bytes_by_variable": named} if (named := account.ledger.by_variable()) else {}),
        **_background(run),
        "compute_s": float(account.compute_s.sum()),
        "exposed_comm_s": float(account.comm_s.sum()),
        "idle_s": float(account.idle_s.sum()),
        "events_per_s": account.events / host if host > 0 else 0.0,
        "tier": run.tier,
        "executor": run.values.name,
        "log_hash": account.log_hash(),
        "targets": _targets(run),
        **({"never_returned": _gone(run)} if run.account.departures else {}),
        **{name: value for name, value in row.items() if name not in skipped},
    }


def _background(run: Simulation) -> dict[str, int]:
    """Flows of background traffic that began, and their bytes over all links, where the network has such."""
    ledger = run.account.ledger
    if not run.book.network.background:
        return {}
    return {"background_flows": ledger.background_flows, "background_bytes": ledger.background_bytes}


def _tensor_work(run: Simulation) -> dict[str, Any]:
    """Host seconds of tensor work: all, and by oracle with the number of its calls by nodes."""
    watch = run.values.watch
    if watch is None:
        return {}
    bank = getattr(run.values, "bank", None)
    kept = {} if bank is None else {"states_bytes": bank.bytes_made}
    if (peak := watch.peak_bytes()) is not None:
        kept["peak_device_bytes"] = peak
    return kept | {"host_tensor_s": watch.seconds(), "oracle_host_s": watch.by_oracle(),
            "oracle_calls": {name: count for name, count in sorted(watch.calls.items()) if name != "all"}}  # fmt: skip


def _gone(run: Simulation) -> list[Any]:
    """Hosts that left for good before their program's end."""
    names, account = run.book.network.hosts, run.account
    return [names[h] for h in np.flatnonzero(account.gone_n & (account.finish_s == run.book.presence.left_s))]


def _targets(run: Simulation) -> dict[str, Any]:
    columns = {name: np.array(column) for name, column in run.columns.items()}
    out: dict[str, Any] = {}
    for metric, value in run.plan.scenario.target.items():
        hit = first_reached(columns, metric, value) if metric in columns else None
        out[metric] = {"target": value, **(hit or {"round": None})}
    return out
