"""A DAG of the shape of `progress_exhaust` whose tasks do nothing: what Airflow alone costs for each batch."""

from typing import Any

from airflow.sdk import DAG, BaseOperator, Context, Param, chain, task_group

STAGES = ("fetch_hierarchy", "extract", "pivot", "package", "mark_complete")


class EmptyOperator(BaseOperator):
    """Does nothing with its batch."""

    template_fields = ("batch",)

    def __init__(self, *, batch: Any = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.batch = batch

    def execute(self, context: Context) -> dict[str, int]:  # noqa: ARG002  Airflow gives it
        return {"reported": 0}


class ListOperator(BaseOperator):
    """Returns batches as list_batches does."""

    def execute(self, context: Context) -> list[dict[str, str]]:
        numbers = range(context["params"]["batches"])
        return [
            {"tag": "empty", "request_id": f"R{n:032}", "batch_id": f"{n:020}", "collection_id": f"do_{n:020}"} for n in numbers
        ]


with DAG("empty", schedule=None, max_active_tasks=1000, params={"batches": Param(100, type="integer", minimum=1)}) as dag:

    @task_group(group_id="batch")
    def stages(batch: Any) -> None:
        chain(
            *(
                EmptyOperator(
                    task_id=stage,
                    batch=batch,
                    pool="progress_exhaust",
                    weight_rule="upstream",
                    map_index_template="{{ task.batch['batch_id'] }}",
                )
                for stage in STAGES
            )
        )

    batches = ListOperator(task_id="list_batches").output
    stages.expand(batch=batches) >> EmptyOperator(task_id="settle_requests", trigger_rule="all_done")
