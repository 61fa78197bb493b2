"""deploy/monitoring/ knows every metric that the tasks send, and no other."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from progress_exhaust import compat, metrics
from progress_exhaust.hooks.requests.models import BATCH_STAGES, TERMINAL_STATES, BatchState
from progress_exhaust.report.excluded import EXCLUDED

PROJECT = Path(__file__).parents[2]
MONITORING = PROJECT / "deploy" / "monitoring"
SIGNALS, MONITOR, RUNBOOK = (
    (PROJECT / "docs" / page).read_text() for page in ("reference/signals.md", "how-to/monitor.md", "how-to/runbook.md")
)
MAPPINGS = yaml.safe_load((MONITORING / "statsd-mappings.yaml").read_text())["mappings"]
RULES = [rule for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((MONITORING / "grafana-dashboard.json").read_text())
HISTOGRAM_PARTS = ("_bucket", "_count", "_sum")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Send every metric once; return the kind of each, by the name that statsd-exporter sees."""
    found: dict[str, str] = {}

    def note(kind: str) -> Any:
        return lambda name, *_: found.update({f"airflow.{name}": kind})

    for function, kind in {"increment_metric": "counter", "set_metric": "gauge", "time_metric": "timer"}.items():
        monkeypatch.setattr(compat, function, note(kind))
    metrics.requests_ended(dict.fromkeys(metrics.OUTCOME_NAMES, 1))
    metrics.oldest_pending(1)
    metrics.undeleted_staging(1)
    metrics.old_staging(1)
    metrics.learners({"reported": 1} | {f"{metrics.EXCLUDED}{reason}": 1 for reason in EXCLUDED})
    for state in (*TERMINAL_STATES, BatchState.FAILED):
        metrics.batch_ended(state)
    for stage in BATCH_STAGES:
        metrics.stage_took(stage, 1)
    senders = {name for name, value in vars(metrics).items() if getattr(value, "__module__", "") == metrics.__name__}
    assert len(senders) == 7  # a new one needs a call above
    return found


def mapping_of(name: str) -> dict[str, Any]:
    """Return the first mapping that fits, as statsd-exporter does: a star is one part between dots."""
    return next(one for one in MAPPINGS if re.fullmatch(re.escape(one["match"]).replace(r"\*", r"[^.]+"), name))


def test_each_metric_has_a_mapping_and_each_mapping_a_metric(sent: dict[str, str]) -> None:
    mapped = {name: mapping_of(name) for name in sent}
    assert {one["name"] for one in mapped.values()} == {one["name"] for one in MAPPINGS}
    for name, one in mapped.items():
        assert (sent[name] == "counter") == one["name"].endswith("_total")
        assert (sent[name] == "timer") == (one.get("observer_type") == "histogram")
        assert ("*" in one["match"]) == ("labels" in one)


def test_each_metric_is_documented(sent: dict[str, str]) -> None:
    described = [re.escape(name) for name in re.findall(r"`(progress_exhaust\.[\w.<>]+)`", SIGNALS)]
    patterns = [re.sub(r"<\w+>", r"[a-z_]+", name) for name in described]
    names = [name.removeprefix("airflow.") for name in sent]
    assert [name for name in names if not any(re.fullmatch(one, name) for one in patterns)] == []
    assert [one for one in patterns if not any(re.fullmatch(one, name) for name in names)] == []


def expressions() -> dict[str, str]:
    panels = {f"panel {panel['title']}": target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]}
    return {f"alert {rule['alert']}": rule["expr"] for rule in RULES} | panels


@pytest.mark.parametrize("place", expressions())
def test_alerts_and_dashboard_ask_for_metrics_that_exist(place: str, sent: dict[str, str]) -> None:
    expression = expressions()[place]
    mapped: dict[str, set[str]] = {}  # the values of the label of each metric, if it has one
    for name in sent:
        mapping = mapping_of(name)
        for label in mapping.get("labels", {"": ""}):
            mapped.setdefault(mapping["name"], set()).add(f'{label}="{name.rpartition(".")[2]}"' if label else "")
    for asked, label in re.findall(r'\b(progress_exhaust_\w+)(?:\{(\w+="\w+")\})?', expression):
        name = asked if asked in mapped else re.sub(f"({'|'.join(HISTOGRAM_PARTS)})$", "", asked)
        assert name in mapped, asked
        assert not label or label in mapped[name], label


def test_the_dashboard_shows_each_metric(sent: dict[str, str]) -> None:
    text = json.dumps(DASHBOARD)
    assert [one["name"] for one in MAPPINGS if one["name"] not in text] == []


def test_each_alert_has_a_severity_a_delay_and_a_page_that_exists() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning") and rule["for"]
        page, _, part = rule["annotations"]["runbook"].partition("#")
        text = (PROJECT / page).read_text()
        headings = [
            re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-") for line in re.findall(r"^#+ (.*)", text, re.M)
        ]
        assert not part or part in headings, rule["alert"]


def test_an_alert_reports_a_gauge_that_no_run_sets_any_more() -> None:
    """The exporter keeps a gauge for ever, unless its mapping says how long; within that time it is there to be scraped."""
    [absent] = [rule["expr"] for rule in RULES if "absent_over_time" in rule["expr"]]
    [gauge] = [one for one in MAPPINGS if absent == f"absent_over_time({one['name']}[26h])"]
    assert gauge["match"] == "airflow.progress_exhaust.oldest_pending_seconds"
    assert gauge["ttl"] == "1h"


def test_the_docs_name_each_alert_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (critical|warning) \| .* \| (\d+) (min|h) \|$", MONITOR, re.MULTILINE)
    assert {(name, severity, f"{number}{unit[0]}") for name, severity, number, unit in rows} == {
        (rule["alert"], rule["labels"]["severity"], rule["for"]) for rule in RULES
    }
    names = {rule["alert"] for rule in RULES}
    assert set(re.findall(r"`((?:ProgressExhaust|Airflow)[A-Z]\w+)`", MONITOR + RUNBOOK)) == names
