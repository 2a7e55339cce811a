"""Graphs from files: GraphML, GML and lists of edges.

What every reader does: nodes become 0 .. n-1 in the file's order (their own name is kept as `id`), loops are
dropped, of parallel edges the first counts, and of a graph in several components the largest is taken (of equals
the one with the first node; of a directed graph the strong ones). Attributes stay; of edges, `bandwidth` (bytes/s),
`latency` (s) and `loss` are what a network reads. Maps in GML and GraphML are filled up, unless `fill: false` says to
leave them: speeds, places and latencies by the rules in geography.py. What was left out or filled up stands in the
graph's `read_notes`, which a run prints.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import ParseError

import networkx as nx

from simnet.dataset import find_file
from simnet.errors import DataError, TopologyError

from . import geography


def gml(n: int | None = None, *, path: str, fill: bool = True, base_dir: Path | None = None) -> nx.Graph:
    """A map in GML, such as those of the Internet Topology Zoo: the largest component on nodes 0 .. n-1.

    Nodes are told apart by their `id`, since labels repeat in many maps; parallel edges are allowed whether or not
    the file says `multigraph 1`.

    Args:
        n: nodes; leave it out, or the map must have as many.
        path: the file, absolute or relative to the scenario.
        fill: whether missing speeds, places and latencies are filled up (see the head of maps.py).
        base_dir: folder that the path counts from.
    """
    file = find_file(path, base_dir)
    text = _text(file)
    if not re.search(r"^\s*multigraph\s", text, re.MULTILINE):
        text = re.sub(r"\bgraph\s*\[", "graph [\n  multigraph 1", text, count=1)
    try:
        graph = nx.parse_gml(text.splitlines(), label="id")
    except (nx.NetworkXError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{file}: no sound GML: {error}") from error
    return _map(graph, n, file, fill)


def graphml(n: int | None = None, *, path: str, fill: bool = True, base_dir: Path | None = None) -> nx.Graph:
    """A map in GraphML: the largest component on nodes 0 .. n-1; arguments as in `gml`."""
    file = find_file(path, base_dir)
    try:
        graph = nx.read_graphml(file)
    except (nx.NetworkXError, ParseError, ValueError, KeyError) as error:
        raise DataError(f"{file}: no sound GraphML: {error}") from error
    return _map(graph, n, file, fill)


def edge_list(n: int | None = None, *, path: str, directed: bool = False, base_dir: Path | None = None) -> nx.Graph:
    """A list of edges: a line `u v` for each, after an optional first line with the number of nodes.

    A file whose name ends in `.adj` has the number of nodes and then, line by line, the neighbours of node 0, 1,
    ... Blank lines (but not in `.adj`) and what follows a `#` do not count. Both are decentralizepy's forms.

    Args:
        n: nodes; leave it out, or the graph must have as many.
        path: the file, absolute or relative to the scenario.
        directed: whether `u v` is a link from u to v alone.
        base_dir: folder that the path counts from.
    """
    file = find_file(path, base_dir)
    graph = nx.DiGraph() if directed else nx.Graph()
    rows = [(number, _numbers(line, file, number)) for number, line in enumerate(_text(file).splitlines(), 1)]
    if file.suffix == ".adj":
        count, pairs = _adjacency(rows, file)
    else:
        rows = [(number, row) for number, row in rows if row]
        counted = bool(rows) and len(rows[0][1]) == 1
        for number, row in rows[counted:]:
            if len(row) != 2:
                raise DataError(f"{file}, line {number}: {len(row)} numbers; an edge is two, 'u v'")
        pairs = [(number, row[0], row[1]) for number, row in rows[counted:]]
        count = rows[0][1][0] if counted else 1 + max((max(u, v) for _, u, v in pairs), default=-1)
    graph.add_nodes_from(range(count))
    for number, u, v in pairs:
        if not (0 <= u < count and 0 <= v < count):
            raise DataError(f"{file}, line {number}: node {max(u, v) if min(u, v) >= 0 else min(u, v)} of {count}")
        graph.add_edge(u, v)
    return _whole(graph, n, file)


def _adjacency(rows: list[tuple[int, list[int]]], file: Path) -> tuple[int, list[tuple[int, int, int]]]:
    if not rows or len(rows[0][1]) != 1:
        raise DataError(f"{file}, line 1: give the number of nodes there")
    count = rows[0][1][0]
    lists = rows[1:]
    while len(lists) > count and not lists[-1][1]:
        lists.pop()
    if len(lists) != count:
        raise DataError(f"{file}: {len(lists)} lists of neighbours for {count} nodes")
    return count, [(number, node, v) for node, (number, row) in enumerate(lists) for v in row]


def _numbers(line: str, file: Path, number: int) -> list[int]:
    try:
        return [int(word) for word in line.partition("#")[0].replace(",", " ").split()]
    except ValueError:
        raise DataError(f"{file}, line {number}: {line.strip()!r} is no list of node numbers") from None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not text in UTF-8 ({error.reason} at byte {error.start})") from error


def _map(graph: nx.Graph, n: int | None, file: Path, fill: bool) -> nx.Graph:
    made = _whole(graph, n, file)
    if fill:
        made.graph["read_notes"] += tuple(f"{file.name}: {note}" for note in geography.fill(made, file.name))
    return made


def _whole(graph: nx.Graph, n: int | None, file: Path) -> nx.Graph:
    """The rules of this file's head."""
    if len(graph) == 0:
        raise DataError(f"{file}: a graph without nodes")
    order = {node: place for place, node in enumerate(graph)}
    components = nx.strongly_connected_components if graph.is_directed() else nx.connected_components
    largest = max(components(graph), key=lambda part: (len(part), -min(order[node] for node in part)))
    kept = {node: number for number, node in enumerate(node for node in graph if node in largest)}
    simple = nx.DiGraph() if graph.is_directed() else nx.Graph()
    lost = len(graph) - len(kept)
    said = f"{file.name}: {lost} of {len(graph)} nodes are not joined to the largest component, and are left out"
    notes = [said] if lost else []
    for node, number in kept.items():
        simple.add_node(number, **{**graph.nodes[node], "id": node})
    loops = parallel = 0
    for u, v, data in graph.edges(data=True):
        if u == v:
            loops += 1
        elif u in kept and v in kept:
            if simple.has_edge(kept[u], kept[v]):
                parallel += 1
            else:
                simple.add_edge(kept[u], kept[v], **data)
    total = graph.number_of_edges()
    for count, said in ((parallel, "run beside another: the first between two nodes counts"),
                        (loops, "lead from a node to itself, and are left out")):  # fmt: skip
        if count:
            notes.append(f"{file.name}: {count} of {total} links {said}")
    simple.graph["read_notes"] = tuple(notes)
    if n not in (None, len(simple)):
        raise TopologyError(f"{file.name}: its largest component has {len(simple)} nodes, and {n} are asked for")
    return simple
