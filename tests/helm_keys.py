"""The keys of Airflow's official Helm chart (1.22) that deploy/helm sets, as a JSON schema.

It has no key that deploy/helm does not set. `AIRFLOW_CHART=folder` of an unpacked chart lets tests/unit/test_helm_values.py use
the whole schema of the chart, and `helm` in addition.
"""

from typing import Any


def keys(**properties: Any) -> dict[str, Any]:
    """Return the schema of an object that has these keys and no others."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def some(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": 1}


TEXT = {"type": "string", "minLength": 1}
SWITCH = {"type": "boolean"}
NUMBER = {"type": "integer", "minimum": 1}
TEXTS = {"type": "object", "additionalProperties": TEXT}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(m|Mi|Gi)?$"}
ENVIRONMENT = some({**keys(name={"type": "string", "pattern": "^[A-Z][A-Z0-9_]*$"}, value=TEXT), "required": ["name", "value"]})
VOLUMES = some(
    {
        **keys(
            name=TEXT,
            secret=keys(secretName=TEXT, defaultMode={"type": "integer", "maximum": 0o777}),
            emptyDir=keys(sizeLimit=QUANTITY),
        ),
        "required": ["name"],
        "minProperties": 2,
        "maxProperties": 2,
    }
)
MOUNTS = some(
    {**keys(name=TEXT, mountPath={"type": "string", "pattern": "^/"}, readOnly=SWITCH), "required": ["name", "mountPath"]}
)
AMOUNTS = {"type": "object", "propertyNames": {"enum": ["cpu", "memory", "ephemeral-storage"]}, "additionalProperties": QUANTITY}
RESOURCES = {**keys(requests=AMOUNTS, limits=AMOUNTS), "required": ["requests", "limits"]}
POD = {"resources": RESOURCES, "env": ENVIRONMENT, "extraVolumes": VOLUMES, "extraVolumeMounts": MOUNTS}
BUNDLES = some({**keys(name=TEXT, classpath=TEXT, kwargs={"type": "object"}), "required": ["name", "classpath", "kwargs"]})

CHART = keys(
    defaultAirflowRepository=TEXT,
    defaultAirflowTag=TEXT,
    airflowVersion=TEXT,
    executor={"enum": ["KubernetesExecutor", "CeleryExecutor"]},
    fernetKeySecretName=TEXT,
    apiSecretKeySecretName=TEXT,
    jwtSecretName=TEXT,
    postgresql=keys(enabled=SWITCH),
    redis=keys(enabled=SWITCH),
    data=keys(metadataSecretName=TEXT, brokerUrlSecretName=TEXT),
    env=ENVIRONMENT,
    extraEnv=TEXT,  # a list of Kubernetes in YAML, as a text
    volumes=VOLUMES,
    volumeMounts=MOUNTS,
    config={
        "type": "object",
        "additionalProperties": {"type": "object", "additionalProperties": {"type": ["string", "integer", "boolean"]}},
    },
    dagProcessor=keys(dagBundleConfigList=BUNDLES),
    triggerer=keys(enabled=SWITCH, replicas=NUMBER, persistence=keys(enabled=SWITCH), resources=RESOURCES),
    statsd=keys(extraMappings=some({"type": "object", "required": ["match", "name"]})),
    workers=keys(
        kubernetes=keys(**POD),
        celery=keys(replicas=NUMBER, terminationGracePeriodSeconds=NUMBER, persistence=keys(enabled=SWITCH), **POD),
    ),
)
