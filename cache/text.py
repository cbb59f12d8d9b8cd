"""The reports of cache.inspect, gc and verify as lines for people."""

import json
from collections.abc import Sequence

from axforge.cache.inspect import age_text, bytes_text, table
from axforge.cache.record import printable
from axforge.cache.reports import (
    CleanReport,
    ContentReport,
    ExportReport,
    ImportReport,
    ModelReport,
    Overview,
    RecordReport,
    RecordRow,
    VerifyReport,
)


def overview_lines(data: Overview) -> list[str]:
    """The report of `inspect` without a name as lines for people."""
    limit = f" of {bytes_text(data['size_limit'])}" if data["size_limit"] is not None else ""
    hits = data["hits"]["local"] + data["hits"]["remote"]
    lines = [
        f"{data['root']}{'' if data['writable'] else ' (read only)'}",
        f"  {data['records']} records, {data['contents']} contents, {bytes_text(data['bytes'])}{limit}",
        f"  {bytes_text(data['bytes_saved_by_sharing'])} saved by sharing, {data['unreferenced']} contents that no record refers to",
        f"  hit rate {100 * data['hit_rate']:.1f} %: {hits} restored ({data['hits']['remote']} from the remote), {data['ran']} ran;"
        f" {bytes_text(data['bytes_restored'])} and {data['seconds_saved']:.0f} s of work restored",
    ]
    if data["remote"]:
        lines.append(f"  remote: {data['remote']}")
    if data["quarantined"]:
        lines.append(f"  {data['quarantined']} damaged files set aside in quarantine")
    if data["in_use"]:
        lines.append(f"  {data['in_use']} records in use by running builds")
    if data["models"]:
        rows = [["model", "stage", "records", "size", "time", "used"]]
        rows += [
            [r["model"] or "-", r["stage"], str(r["records"]), bytes_text(r["bytes"]), f"{r['seconds']:.1f} s", age_text(r["used"])]
            for r in data["models"]
        ]
        lines += ["", *table(rows, right=(2, 3, 4))]
        for title in ("largest", "oldest"):
            lines += ["", f"{title}:", *_rows(data[title])]
    return lines


def _rows(rows: Sequence[RecordRow], extra: str = "") -> list[str]:
    if not rows:
        return ["  none"]
    cells = [
        [
            "  " + row["key"][:12],
            row["model"] or "-",
            row["stage"],
            bytes_text(row["bytes"]),
            age_text(row["used"]),
            str(row.get(extra, "")),
        ]
        for row in rows
    ]
    return table(cells, right=(3,))


def look_lines(data: ModelReport | ContentReport | RecordReport) -> list[str]:
    """The report of `inspect` of one thing as lines for people."""
    if "record" in data:
        return _record_lines(data)
    if "content" in data:
        state = bytes_text(data["bytes"]) if data["stored"] else "not stored here"
        head = f"{data['file']}: " if "file" in data else ""
        made, used = _rows(data["made_by"], "output"), _rows(data["used_by"], "input")
        return [f"{head}content {data['content']}, {state}", "made by:", *made, "used by:", *used]
    lines = [f"model {data['model']}", "records:", *_rows(data["records"])]
    if data["last_builds"]:
        lines.append("last builds:")
        rows = [["  " + b["workspace"], b["stage"], b["key"][:12], "" if b["cached"] else "no longer cached"] for b in data["last_builds"]]
        lines += table(rows)
    return lines


def _record_lines(data: RecordReport) -> list[str]:
    provenance = ", ".join(f"{name} {value}" for name, value in sorted(data["provenance"].items()))
    lines = [
        f"record {data['record']}",
        f"  stage {data['stage']} version {data['stage_version']}, {data['sdk']}",
        f"  {provenance}",
        f"  {data['signature']}",
        f"  config {json.dumps(data['config'], ensure_ascii=False, sort_keys=True)}",
        f"  libraries {', '.join(f'{name} {version}' for name, version in sorted(data['libraries'].items())) or '-'}",
        "inputs:",
    ]
    for item in data["inputs"]:
        makers = ", ".join(f"{row['stage']} {row['key'][:12]}" for row in item["made_by"])
        what = f"{item['count']} files {item['tree']}" if "tree" in item else item["sha256"]
        lines.append(f"  {item['name']}  {what}" + (f"  from {makers}" if makers else ""))
    lines.append("outputs:")
    lines += [
        f"  {o['name']}  {o['sha256']}  {bytes_text(o['bytes'])}{'' if o['stored'] else '  not stored here'}" for o in data["outputs"]
    ]
    lines += ["came from:", *_rows(data["ancestors"]), "what depends on it:", *_rows(data["dependents"])]
    if data["log"]:
        lines += ["log:", *("  " + printable(line) for line in data["log"].splitlines())]
    return lines


def clean_lines(data: CleanReport) -> list[str]:
    """The report of `clean` as lines for people."""
    verb = "would be removed" if data["dry_run"] else "removed"
    lines = [
        f"{data['records']} records and {data['contents']} contents, {bytes_text(data['bytes'])}, {verb};"
        f" {bytes_text(data['bytes_left'])} {'would be ' * data['dry_run']}left"
    ]
    for model, stages in sorted(data["by_model"].items()):
        lines.append(f"  {model}: " + ", ".join(f"{count} {stage}" for stage, count in sorted(stages.items())))
    if data["leftovers"]:
        lines.append(f"  {data['leftovers']} leftovers: of processes that were killed, old quarantine")
    if data["kept_in_use"]:
        lines.append(f"  {data['kept_in_use']} records kept, because running builds use them")
    return lines


def export_lines(data: ExportReport) -> list[str]:
    """The report of `export` as lines for people."""
    return [f"{data['file']}: {data['records']} records with {data['contents']} contents, {bytes_text(data['bytes'])}"]


def import_lines(data: ImportReport) -> list[str]:
    """The report of `import` as lines for people."""
    verb = "would be kept" if data["dry_run"] else "kept"
    lines = [f"{data['file']}: {data['new']} of {data['records']} records {verb}, {bytes_text(data['bytes'])}; the others are here already"]
    return [*lines, f"  models: {', '.join(data['models'])}"] if data["models"] else lines


def verify_lines(data: VerifyReport) -> list[str]:
    """The report of `verify` as lines for people."""
    lines = [f"{data['records']} records and {data['checked']} contents checked, {bytes_text(data['bytes'])}"]
    if data["sound"]:
        return [*lines, "everything is as it was stored"]
    if data["damaged"]:
        lines.append(f"{len(data['damaged'])} contents were damaged and have been set aside")
    if data["records_damaged"]:
        lines.append(f"{data['records_damaged']} records were damaged and have been set aside")
    lines += [f"  will be built again when needed: {row['stage']} {row['label']} ({row['key'][:12]}…)" for row in data["rebuilt"]]
    return lines
