"""Check the installation from a worker: what the command line finds on another machine may differ."""

import logging
from typing import TYPE_CHECKING

from airflow.sdk import BaseOperator, Variable

from progress_exhaust.airflow_names import AirflowFailException
from progress_exhaust.settings import VARIABLE

if TYPE_CHECKING:
    from airflow.sdk import Context


class CheckInstallationOperator(BaseOperator):
    """Log what each check finds; fail if one finds an error. No run or request is needed, and none is changed."""

    def execute(self, context: "Context") -> None:
        from progress_exhaust.checks.findings import Level, format_levels, run_checks
        from progress_exhaust.checks.installation import all_checks

        log_levels = {Level.OK: logging.INFO, Level.WARNING: logging.WARNING, Level.ERROR: logging.ERROR}
        findings = list(run_checks(all_checks(Variable.get(VARIABLE, default=None), sees_pools=False)))
        for finding in findings:
            self.log.log(log_levels[finding.level], "%s: %s (%s): %s", finding.level, finding.check, finding.where, finding.text)
        levels = format_levels(findings)
        self.log.info("checks %s", levels)
        if any(finding.level is Level.ERROR for finding in findings):
            raise AirflowFailException(f"The installation has errors ({levels}). The log of this task names each, and what to do")
