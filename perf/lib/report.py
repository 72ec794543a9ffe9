"""What was measured, as tables, targets and values."""

import statistics

from loads import LOADS

THEIRS, OURS = "ceph", "spirula"
# Load, what is compared, and the least that Ceph's must be as a multiple of ours.
TARGETS = [
    ("randread-depth32", "total", 8),
    ("randread-depth32", "after_floor", 10),
    ("randwrite-depth32", "total", 10),
    ("seqread-4m", "total", 3),
    ("seqwrite-4m", "total", 3),
]
COLUMNS = ["CPU us", "client us", "device read", "written", "metadata misses", "commit rounds", "hand-offs", "/s", "p50 us", "p99 us"]
COMPARED = {"total": "total", "after_floor": "without the floor"}


def ratios(rows, floor_us, compared):
    """Ceph's CPU as a multiple of ours, round by round. Empty if there is nothing to compare, or no floor to take off."""
    off = {"total": 0, "after_floor": floor_us}[compared]
    if off is None:
        return []
    pairs = zip(rows.get(THEIRS, []), rows.get(OURS, []))
    # Less than the floor measured as such is noise; it has no ratio.
    return [(theirs["cpu_us"] - off) / (ours["cpu_us"] - off) for theirs, ours in pairs if ours["cpu_us"] > off]


def judge(results, floor):
    """The targets with what came of them."""
    told = []
    for load, compared, least in TARGETS:
        found = ratios(results.get(load, {}), floor.of(load), compared)
        rounds = len(results.get(load, {}).get(OURS, []))
        median = statistics.median(found) if found else None
        met = None if median is None or len(found) < rounds else median >= least
        told.append({"load": load, "compared": compared, "wanted": least, "ratio": median, "met": met})
    return told


def tell(results, floor, failures):
    """Prints everything but what single rounds gave."""
    print("\nMedians (min-max where given). CPU is the server's, spirula's with its monitor's; the client's is fio's with its start.\n")
    print(f"| load | per | server | {' | '.join(COLUMNS)} |")
    print(f"|---|---|---|{'--:|' * len(COLUMNS)}")
    for name, rows in results.items():
        for server, runs in rows.items():
            print(_row(LOADS[name], server, runs))
    print("\nDevice read and written are bytes, as the kernel counts them for the process: 4096 for a read of 4 KiB that comes from the device.")
    _tell_floor(floor)
    print("\nCeph's CPU as a multiple of spirula's, of the rounds in pairs: median (min-max).\n")
    print("| load | total | floor us | without the floor |\n|---|--:|--:|--:|")
    for name, rows in results.items():
        off = floor.of(name)
        shown = [_multiple(ratios(rows, off, compared)) for compared in ("total", "after_floor")]
        parts = " + ".join(measure if weight == 1 else f"{weight} {measure}" for measure, weight in LOADS[name].floor)
        print(f"| {LOADS[name].title} | {shown[0]} | {'-' if off is None else f'{off:.1f} ({parts})'} | {shown[1]} |")
    print()
    for target in judge(results, floor):
        verdict = {None: "not known", True: "met", False: "NOT MET"}[target["met"]]
        ratio = "-" if target["ratio"] is None else f"{target['ratio']:.1f}"
        print(f"target: {LOADS[target['load']].title}, {COMPARED[target['compared']]}: "
              f"1/{target['wanted']} of Ceph's CPU; 1/{ratio}: {verdict}")
    for failure in failures:
        print(f"failed: {failure}")


def _row(load, server, runs):
    def median(key):
        return statistics.median(run[key] for run in runs)

    def percentile(key):
        # Of a mix: reads / writes.
        return " / ".join(f"{statistics.median(values):.0f}" for values in zip(*(run[key] for run in runs)))

    cpu = [run["cpu_us"] for run in runs]
    columns = [
        f"{median('cpu_us'):.1f} ({min(cpu):.1f}-{max(cpu):.1f})", f"{median('client_cpu_us'):.1f}",
        f"{median('device_read_bytes'):.0f}", f"{median('device_written_bytes'):.0f}", f"{median('metadata_misses'):.3f}",
        f"{median('commit_rounds'):.3f}", f"{median('hand_offs'):.2f}", f"{median('per_second'):.0f}", percentile("p50_us"),
        percentile("p99_us"),
    ]
    return f"| {load.title} | {load.unit} | {server} | {' | '.join(columns)} |"


def _tell_floor(floor):
    if floor.wanted:
        print("\nThe floor, CPU us: the network's per echo of 4 KiB each way, the device's per I/O of 4 KiB, or per MiB of 4 MiB; "
              "median (min-max)\n")
    for measure in floor.wanted:
        samples = floor.samples.get(measure)
        shown = f"{statistics.median(samples):.2f} ({min(samples):.2f}-{max(samples):.2f})" if samples else "not known"
        print(f"  {measure}: {shown}{'; ' + floor.unknown[measure] if measure in floor.unknown else ''}")


def _multiple(found):
    return f"{statistics.median(found):.1f} ({min(found):.1f}-{max(found):.1f})" if found else "-"
