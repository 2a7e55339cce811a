"""SimGrid's platform files: what each feature means, what is refused, and the routes of SimGrid 3.32 itself.

`reference/simgrid_routes` holds what its Python bindings (`Host.route_to`) answered: `mixed.json` the links and
latencies for hosts of `mixed.xml`, `platforms.json` the digests for the shared files; `nested.json` has five platforms
made at random, and when eight flows each ended there in three of its models (`Comm.sendto`, network/optim:Full).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

import simnet
from simnet.errors import DataError, InputError, ScenarioError, TopologyError
from simnet.network.flows.transfers import TransferTimes, transfer_times
from simnet.network.simgrid.platform import SimgridPlatform
from simnet.network.simgrid.reader import read_simgrid
from tests.shared import shared_dir

REFERENCE = Path(__file__).parent / "reference" / "simgrid_routes"
HOSTS = '<host id="a" speed="1Gf"/><host id="b" speed="2Gf"/><host id="c" speed="500Mf" core="4"/>'
LINK = '<link id="{0}" bandwidth="1MBps" latency="1ms"/>'
LINKS = "".join(LINK.format(name) for name in "klm")


def route(src: str, dst: str, *links: str, kind: str = "route", more: str = "") -> str:
    inside = "".join(f'<link_ctn id="{name}"/>' for name in links)
    return f'<{kind} src="{src}" dst="{dst}" {more}>{inside}</{kind}>'


def read(folder: Path, inside: str, routing: str = "Full", before: str = "", after: str = "") -> SimgridPlatform:
    file = folder / "p.xml"
    file.write_text(
        f'<?xml version="1.0"?>\n<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">\n'
        f'<platform version="4.1">{before}<zone id="w" routing="{routing}">\n{inside}\n</zone>{after}</platform>'
    )
    return read_simgrid(file)


def names(platform: SimgridPlatform, a: str, b: str) -> list[str]:
    return [platform.links[k].name for k in platform.route(a, b)]


# ---- routes ---------------------------------------------------------------------------------------------------------


def test_full_takes_the_given_routes_both_ways_unless_told_otherwise(tmp_path: Path) -> None:
    one_way = route("b", "c", "m", more='symmetrical="NO"') + route("c", "b", "k", more='symmetrical="NO"')
    made = read(tmp_path, HOSTS + LINKS + route("a", "b", "k", "l") + one_way)
    assert names(made, "a", "b") == ["k", "l"]
    assert names(made, "b", "a") == ["l", "k"]
    assert (names(made, "b", "c"), names(made, "c", "b")) == (["m"], ["k"])
    with pytest.raises(TopologyError, match="no route leads from host a to host c"):
        made.route("a", "c")


@pytest.mark.parametrize("routing", ["Floyd", "Dijkstra", "DijkstraCache"])
def test_graph_routings_take_the_fewest_links(tmp_path: Path, routing: str) -> None:
    far = LINK.format("n") + LINK.format("o")
    edges = route("a", "b", "k") + route("b", "c", "l", "m") + route("a", "c", "n", "o", "k", "l")
    made = read(tmp_path, HOSTS + LINKS + far + edges, routing)
    assert names(made, "a", "c") == ["k", "l", "m"]
    assert names(made, "c", "a") == ["m", "l", "k"]


def test_a_star_goes_up_and_down_and_takes_a_shared_link_once(tmp_path: Path) -> None:
    middle = LINK.format("bb")
    spokes = '<route src="a"><link_ctn id="k"/><link_ctn id="bb"/></route>'
    spokes += '<route src="b" symmetrical="NO"><link_ctn id="l"/></route>'
    spokes += '<route dst="b" symmetrical="NO"><link_ctn id="bb"/><link_ctn id="m"/></route>'
    made = read(tmp_path, HOSTS + LINKS + middle + spokes, "Star")
    assert names(made, "a", "b") == ["k", "bb", "m"]
    assert names(made, "b", "a") == ["l", "bb", "k"]


def test_a_route_between_zones_goes_by_their_gateways_at_any_depth(tmp_path: Path) -> None:
    inner = '<zone id="deep" routing="Full"><host id="x" speed="1f"/><router id="g"/>'
    inner += LINK.format("xg") + route("x", "g", "xg") + "</zone>"
    outer = f'<zone id="mid" routing="Full">{inner}<zone id="gz" routing="Full"><router id="h"/></zone>'
    outer += LINK.format("gh") + route("deep", "gz", "gh", kind="zoneRoute", more='gw_src="g" gw_dst="h"') + "</zone>"
    other = '<zone id="other" routing="None"><host id="y" speed="1f"/></zone>'
    across = route("mid", "other", "k", kind="zoneRoute", more='gw_src="h" gw_dst="y"')
    made = read(tmp_path, outer + other + LINKS + across)
    assert names(made, "x", "y") == ["xg", "gh", "k"]
    assert names(made, "y", "x") == ["k", "gh", "xg"]


def test_a_bypass_counts_before_the_zone_s_routing_and_one_way(tmp_path: Path) -> None:
    made = read(tmp_path, HOSTS + LINKS + route("a", "b", "k") + route("a", "b", "l", "m", kind="bypassRoute"))
    assert (names(made, "a", "b"), names(made, "b", "a")) == (["l", "m"], ["k"])


def test_a_bypass_between_zones_counts_for_all_in_them(tmp_path: Path) -> None:
    zones = "".join(f'<cluster id="{z}" prefix="{z}" radical="0-1" speed="1f" bw="1MBps" lat="0"/>' for z in "pq")
    gates = 'gw_src="pp_router" gw_dst="qq_router"'
    ways = route("p", "q", "k", kind="zoneRoute", more=gates) + route("p", "q", "l", kind="bypassZoneRoute", more=gates)
    made = read(tmp_path, zones + LINKS + ways)
    assert names(made, "p1", "q0") == ["p_link_1_UP", "l", "q_link_0_DOWN"]
    assert names(made, "q0", "p1") == ["q_link_0_UP", "k", "p_link_1_DOWN"]


def test_a_split_link_has_two_directions(tmp_path: Path) -> None:
    split = '<link id="s" bandwidth="1MBps" latency="0" sharing_policy="SPLITDUPLEX"/>'
    way = '<route src="a" dst="b"><link_ctn id="s" direction="UP"/></route>'
    made = read(tmp_path, HOSTS + split + way)
    assert (names(made, "a", "b"), names(made, "b", "a")) == (["s_UP"], ["s_DOWN"])


def test_a_flat_cluster_has_a_link_for_each_host_and_a_backbone(tmp_path: Path) -> None:
    cluster = '<cluster id="c" prefix="n" suffix=".x" radical="0-1,7" speed="1Gf" bw="1Gbps" lat="50us" {}/>'
    made = read(tmp_path, cluster.format('bb_bw="10Gbps" bb_lat="1us" limiter_link="150MBps"'))
    assert names(made, "n0.x", "n7.x") == [
        "c_link_0_limiter", "c_link_0_UP", "c_backbone", "c_link_7_DOWN", "c_link_7_limiter",
    ]  # fmt: skip
    half = read(tmp_path, cluster.format('sharing_policy="SHARED"'))
    assert names(half, "n0.x", "n7.x") == ["c_link_0", "c_link_7"]


def test_cabinets_and_host_links_stand_around_the_backbone(tmp_path: Path) -> None:
    inside = '<cabinet id="c" prefix="n" radical="1-2" speed="1f" bw="1MBps" lat="1ms"/>' + HOSTS + LINKS
    inside += '<host_link id="a" up="k" down="l"/><backbone id="bb" bandwidth="1GBps" latency="0"/>'
    made = read(tmp_path, inside, "Cluster")
    assert names(made, "a", "n2") == ["k", "bb", "link_n2_DOWN"]
    assert names(made, "n2", "a") == ["link_n2_UP", "bb", "l"]


def test_a_torus_goes_the_shorter_way_round_dimension_by_dimension(tmp_path: Path) -> None:
    torus = '<cluster id="t" prefix="" radical="0-14" speed="1f" bw="1MBps" lat="0" topology="TORUS" {}/>'
    made = read(tmp_path, torus.format('topo_parameters="5,3"'))
    assert names(made, "0", "2") == ["t_link_from_0_to_1_UP", "t_link_from_1_to_2_UP"]
    assert names(made, "0", "4") == ["t_link_from_4_to_0_DOWN"]
    assert names(made, "4", "6") == ["t_link_from_4_to_0_UP", "t_link_from_0_to_1_UP", "t_link_from_1_to_6_UP"]
    with pytest.raises(DataError, match="torus of 20 nodes, but radical names 15"):
        read(tmp_path, torus.format('topo_parameters="5,4"'))


def test_vivaldi_coordinates_are_milliseconds(tmp_path: Path) -> None:
    peer = '<peer id="{}" coordinates="{}" speed="1f" bw_in="1MBps" bw_out="2MBps"/>'
    made = read(tmp_path, peer.format("p", "0 0 1") + peer.format("q", "3 -4 2"), "Vivaldi")
    way = [made.links[k] for k in made.route("p", "q")]
    assert sum(link.latency_s for link in way) == pytest.approx(0.008, rel=1e-15)
    assert [link.bandwidth for link in way] == [2e6, float("inf"), 1e6]


# ---- quantities -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [("1MBps", 1e6), ("1Mbps", 125e3), ("8kbps", 1e3), ("1MiBps", 1048576.0), ("1KiBps", 1024.0), ("2.25GBps", 2.25e9),
     ("1e6", 1e6), ("1E6Bps", 1e6), ("3.5 kBps", 3500.0)],
)  # fmt: skip
def test_bytes_and_bits_differ(tmp_path: Path, text: str, bytes_per_s: float) -> None:
    made = read(tmp_path, f'<link id="k" bandwidth="{text}" latency="0"/>')
    assert made.links[0].bandwidth == bytes_per_s


@pytest.mark.parametrize(
    ("text", "seconds"), [("50us", 50e-6), ("10ms", 0.01), ("1s", 1.0), ("0.5", 0.5), ("3ns", 3e-9), ("2m", 120.0)]
)
def test_times_have_units(tmp_path: Path, text: str, seconds: float) -> None:
    assert read(tmp_path, f'<link id="k" bandwidth="1" latency="{text}"/>').links[0].latency_s == pytest.approx(seconds)


def test_a_host_s_speed_is_that_of_its_pstate(tmp_path: Path) -> None:
    made = read(tmp_path, '<host id="a" speed="100Mf,50Mf,0f" pstate="1" core="2"/>')
    assert (made.hosts["a"].speed, made.hosts["a"].cores) == (50e6, 2)


# ---- profiles -------------------------------------------------------------------------------------------------------


def test_a_profile_changes_the_bandwidth_and_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "bw.profile").write_text("# comes and goes\n1 2000000\n3 0\nLOOPAFTER 2\n")
    link = '<link id="k" bandwidth="1MBps" latency="0" bandwidth_file="bw.profile"/>'
    read(tmp_path, HOSTS + link + route("a", "b", "k"))
    # 1 MB by 1 s, 4 MB more by 3 s, nothing until 6 s (1 s + the period of 3 + 2), then 2 MB/s until 8 s
    made = transfers(tmp_path, "{from: a, to: b, bytes: 5 MB}, {from: a, to: b, bytes: 1 MB, after: [0]}")
    assert made.finish_s == pytest.approx([3.0, 6.5], rel=1e-12)
    assert made.utilisation[0] == pytest.approx(1.0)


def test_a_link_that_is_off_carries_nothing_until_it_is_on(tmp_path: Path) -> None:
    trace = '<trace id="t">\n1 0\n4 1\n</trace>'
    connect = '<trace_connect kind="LINK_AVAIL" trace="t" element="k"/>'
    read(tmp_path, HOSTS + LINKS + route("a", "b", "k"), before=trace, after=connect)
    made = transfers(tmp_path, "{from: a, to: b, bytes: 2 MB}")
    assert made.finish_s == pytest.approx([5.001], rel=1e-12)


def test_a_flow_has_the_latency_of_its_start(tmp_path: Path) -> None:
    (tmp_path / "lat.profile").write_text("5 0.5\n8 0.25\nLOOPAFTER 5\n")
    moving = '<link id="z" bandwidth="1" latency="1" latency_file="lat.profile"/>'
    read(tmp_path, HOSTS + moving + route("a", "b", "z"))
    flows = "{from: a, to: b, bytes: 2 B}, {from: a, to: b, bytes: 1 B, after: [0], delay: 2 s}, "
    flows += "{from: a, to: b, bytes: 1 B, start: 10 s}, {from: a, to: b, bytes: 1 B, start: 18 s}"
    made = transfers(tmp_path, flows)  # 1 s of latency at first, 0.5 from 5 and from 13 + 5 s on, 0.25 from 8 s on
    assert made.finish_s == pytest.approx([3.0, 6.5, 11.25, 19.5], rel=1e-12)


def test_both_shared_platforms_whose_links_change_carry_flows() -> None:
    folder = shared_dir() / "data" / "simgrid_platforms"
    for name, a, b in (("small_platform_profile", "Fafard", "Jupiter"), ("two_hosts_profiles", "Jupiter", "Fafard")):
        flows = [{"from": a, "to": b, "bytes": "5 MB"}, {"from": b, "to": a, "bytes": "5 MB", "start": "4 s"}]
        if name == "two_hosts_profiles":
            hosts = list(read_simgrid(folder / f"{name}.xml").hosts)
            flows = [{"from": hosts[0], "to": hosts[1], "bytes": "5 MB"}]
        made = simnet.transfer_times({"platform": str(folder / f"{name}.xml"), "flows": flows}, "lv08")
        assert 0 < made.finish_s.max() < 100


# ---- the 43 shared files, and SimGrid itself ------------------------------------------------------------------------

NEED_WIFI = ("wifi.xml", "wifi_energy.xml", "wifi_large_cell.xml", "wifi_ns3.xml")


def test_routes_through_mixed_zones_are_simgrid_s() -> None:
    made = read_simgrid(REFERENCE / "mixed.xml")
    rows = json.loads((REFERENCE / "mixed.json").read_text())
    assert len(rows) == 82
    for a, b, links, latency_s in rows:
        assert Counter(names(made, a, b)) == Counter(links)  # SimGrid's Dijkstra turns the links of each edge round
        assert sum(made.links[k].latency_s for k in made.route(a, b)) == pytest.approx(latency_s, rel=1e-12)


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("model", ["lv08", "lv08_noxt", "cm02"])
def test_flows_over_nested_zones_end_when_simgrid_s_do(tmp_path: Path, number: int, model: str) -> None:
    case = json.loads((REFERENCE / "nested.json").read_text())[number]
    (tmp_path / "p.xml").write_text("\n".join(case["platform"]))
    flows = [dict(zip(("from", "to", "bytes", "start"), flow, strict=True)) for flow in case["flows"]]
    made = simnet.transfer_times({"platform": str(tmp_path / "p.xml"), "flows": flows}, model)
    assert made.finish_s.tolist() == pytest.approx(case["finish"][model], rel=1e-12)


def platform_files() -> list[Path]:
    return sorted((shared_dir() / "data" / "simgrid_platforms").glob("*.xml"))


def test_39_of_the_43_shared_platforms_load_and_route_as_in_simgrid() -> None:
    known = json.loads((REFERENCE / "platforms.json").read_text())
    files = platform_files()
    assert len(files) == 43
    assert {file.name for file in files} == set(known) | set(NEED_WIFI)
    for file in files:
        if file.name in NEED_WIFI:
            continue
        made, expected = read_simgrid(file), known[file.name]
        hosts = list(made.hosts)
        some = hosts[:: max(1, len(hosts) // 60)]
        lines = []
        for a in some:
            for b in some:
                way = made.way(made.hosts[a].point, made.hosts[b].point) if a != b else None
                if way is not None:
                    links = [made.links[k] for k in way]
                    known_links = [f"{x.name} {x.bandwidth:.9g}" for x in links if "~" not in x.name]
                    lines.append("|".join([a, b, *known_links, f"{sum(x.latency_s for x in links):.9g}"]))
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        assert (file.name, len(hosts), len(lines), digest) == (file.name, *expected.values())


@pytest.mark.parametrize("name", NEED_WIFI)
def test_the_others_name_what_they_need(name: str) -> None:
    file = next(file for file in platform_files() if file.name == name)
    with pytest.raises(DataError, match=rf"{name}, line \d+: <zone>: routing = 'W(ifi|IFI)' is not supported"):
        read_simgrid(file)


# ---- transfers ------------------------------------------------------------------------------------------------------


def transfers(folder: Path, flows: str, more: str = "", model: str = "maxmin") -> TransferTimes:
    file = folder / "try.yaml"
    file.write_text(f"platform: p.xml\nflows: [{flows}]\n{more}")
    return transfer_times(file, model)


def test_flows_over_a_platform_share_its_links(tmp_path: Path) -> None:
    read(tmp_path, HOSTS + LINKS + route("a", "b", "k", "l") + route("a", "c", "k", "m"))
    made = transfers(tmp_path, "{from: a, to: b, bytes: 1 MB}, {from: a, to: c, bytes: 1 MB}")
    assert made.finish_s == pytest.approx([2.002, 2.002], rel=1e-12)
    assert {made.case.links.names[k] for k in made.limit} == {"k"}


def test_a_split_link_does_not_share_between_directions_and_a_shared_one_does(tmp_path: Path) -> None:
    flows = "{from: a, to: b, bytes: 1 MB}, {from: b, to: a, bytes: 1 MB}"
    read(tmp_path, HOSTS + LINKS + route("a", "b", "k"))
    assert transfers(tmp_path, flows).finish_s == pytest.approx([2.001, 2.001], rel=1e-12)
    split = '<link id="s" bandwidth="1MBps" latency="1ms" sharing_policy="SPLITDUPLEX"/>'
    read(tmp_path, HOSTS + split + '<route src="a" dst="b"><link_ctn id="s" direction="UP"/></route>')
    assert transfers(tmp_path, flows).finish_s == pytest.approx([1.001, 1.001], rel=1e-12)


def test_a_way_without_any_bandwidth_needs_a_model_with_a_window(tmp_path: Path) -> None:
    at = '<host id="{}" coordinates="{} 0 0" speed="1f"/>'
    read(tmp_path, at.format("a", 0) + at.format("b", 10), "Vivaldi")
    with pytest.raises(TopologyError, match="nothing limits the rate from host a to host b under maxmin"):
        transfers(tmp_path, "{from: a, to: b, bytes: 1 MB}")
    lv08 = transfers(tmp_path, "{from: a, to: b, bytes: 1 MB}", model="lv08")
    assert lv08.finish_s == pytest.approx([13.01 * 0.01 + 1e6 / 0.97 * 2 * 0.01 / 4194304], rel=1e-9)


def test_hosts_that_are_not_there_are_refused(tmp_path: Path) -> None:
    read(tmp_path, HOSTS + LINKS + route("a", "b", "k") + route("a", "c", "l"))
    with pytest.raises(ScenarioError, match=r"try.yaml:2:\d+ flows.0.to: there is no host 'bb' in p.xml; did you mean"):
        transfers(tmp_path, "{from: a, to: bb, bytes: 1 MB}")
    with pytest.raises(TopologyError, match=r"try.yaml:2:\d+ flows.0: p.xml: no route leads from host b to host c"):
        transfers(tmp_path, "{from: b, to: c, bytes: 1 MB}")
    with pytest.raises(InputError, match="says nothing of flows: name it in a YAML file"):
        simnet.transfer_times(tmp_path / "p.xml")
    with pytest.raises(ScenarioError, match=r"try.yaml:3:1 hosts: stands beside `platform`"):
        transfers(tmp_path, "{from: a, to: b, bytes: 1 MB}", "hosts: {a: }\n")


# ---- what is refused, with element and line -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("<storage id='s'/>", "<storage>: is not supported inside <zone>"),
        ('<host id="a" speed="1f" power="3"/>', "<host>: the attribute 'power' is not supported"),
        ('<host id="a"/>', "<host>: needs the attribute 'speed'"),
        ('<host id="a" speed="0f"/>', "<host>: speed = '0f': must be above 0"),
        ('<host id="a" speed="1f" pstate="2"/>', "<host>: pstate = '2'"),
        ('<host id="a" speed="1f" core="0"/>', "<host>: core = '0'"),
        (HOSTS + '<host id="a" speed="1f"/>', "<host>: the name 'a' stands for two"),
        ('<link id="k" bandwidth="0" latency="0"/>', "<link>: bandwidth = '0': must be above 0"),
        ('<link id="k" bandwidth="-1MBps" latency="0"/>', "<link>: bandwidth = '-1MBps': must be above 0"),
        ('<link id="k" bandwidth="1Mb" latency="0"/>', "<link>: bandwidth = '1Mb' is no bandwidth such as '125MBps'"),
        ('<link id="k" bandwidth="1" latency="-1ms"/>', "<link>: latency = '-1ms': must be at least 0"),
        ('<link id="k" bandwidth="1" latency="0" sharing_policy="WIFI"/>', "<link>: sharing_policy = 'WIFI' is not"),
        ('<link id="k" bandwidth="1" latency="0" bandwidth_file="no"/>', "<link>: bandwidth_file = 'no': cannot be"),
        (LINKS + LINK.format("k"), "<link>: the name 'k' stands for two links"),
        (HOSTS + LINKS + route("a", "b", "kk"), "<link_ctn>: id: there is no link 'kk'; did you mean 'k'?"),
        (HOSTS + LINKS + route("a", "bb", "k"), "<route>: dst: there is no host, router or zone 'bb'"),
        (HOSTS + LINKS + route("a", "b", "k") * 2, "<route>: there already is a route from 'a' to 'b'"),
        (HOSTS + LINKS + route("w", "b", "k"), "<route>: src = 'w' is not in zone 'w'"),
        ('<zone id="z" routing="Magic"/>', "<zone>: routing = 'Magic' is not supported: Full"),
        ('<cabinet id="c" radical="1" speed="1f" bw="1" lat="0"/>', '<cabinet>: needs a zone with routing="Cluster"'),
        ('<cluster id="c" radical="5-1" speed="1f" bw="1" lat="0"/>', "<cluster>: radical = '5-1': must be numbers"),
        ('<cluster id="c" radical="0" speed="1f" bw="1" lat="0" topology="FAT_TREE"/>', "topology = 'FAT_TREE' is not"),
        ("<host id='a' speed='1f'>words</host>", "<host>: holds the text 'words'"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named_with_its_line(tmp_path: Path, inside: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, inside)
    assert said in str(caught.value)
    assert str(caught.value).startswith("p.xml, line 4: <")


def test_gateways_lie_in_their_zones(tmp_path: Path) -> None:
    zones = "".join(f'<zone id="{z}" routing="Full"><host id="{z}h" speed="1f"/></zone>' for z in "pq")
    bad = route("p", "q", "k", kind="zoneRoute", more='gw_src="qh" gw_dst="qh"')
    with pytest.raises(DataError, match="gw_src = 'qh' is not in zone 'p'"):
        read(tmp_path, zones + LINKS + bad)
    with pytest.raises(DataError, match="between zones, use <zoneRoute>"):
        read(tmp_path, zones + LINKS + route("p", "q", "k"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5 1\n3 1\n", "line 2: '3 1': times must be finite, at least 0, and rise"),
        ("1 -1\n", "line 1: '1 -1': the value must be at least 0"),
        ("now 1\n", "line 1: 'now 1' is no `time value`"),
        ("# nothing\n", "holds no `time value`"),
        ("1 2\nLOOPAFTER 0\n", "must be above 0 s"),
    ],
)
def test_profiles_are_checked(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.profile").write_text(text)
    with pytest.raises(DataError) as caught:
        read(tmp_path, '<link id="k" bandwidth="1" latency="0" bandwidth_file="x.profile"/>')
    assert said in str(caught.value)
    assert str(caught.value).startswith("p.xml, line 4: <link>: x.profile")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<platform version='4.1'><zone id='w' routing='Full'>", "p.xml, line 1: no sound XML: no element found"),
        ("words", "p.xml, line 1: no sound XML: syntax error"),
        ("<cluster id='c'/>", "begins with <platform"),
        ("<platform version='3'/>", "version = '3'"),
        ("<platform version='4.1'/>", "holds 0 outermost zones"),
        (
            '<!DOCTYPE p [<!ENTITY a "xx"><!ENTITY b "&a;&a;&a;">]>\n<platform version="4.1">&b;</platform>',
            "line 1: entities are not read",
        ),
        ('<!DOCTYPE p [<!ENTITY a SYSTEM "file:///etc/hostname">]>\n<platform>&a;</platform>', "entities are not read"),
    ],
)
def test_what_is_no_platform_is_refused_and_entities_never_expand(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "p.xml").write_text(text)
    with pytest.raises(DataError) as caught:
        read_simgrid(tmp_path / "p.xml")
    assert said in str(caught.value)
