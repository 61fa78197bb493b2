"""HTTP: the user-org service, for the data security policy and the public key of an org (data model, section 6)."""

from typing import Any, Self

from progress_exhaust.airflow_names import AirflowNotFoundException
from progress_exhaust.errors import RequestError, SetupError, SourceError
from progress_exhaust.hooks.sunbird_api import NOT_FOUND, Answer, SunbirdApiHook

POLICY = "dataSecurityPolicy"
PUBLIC_KEYS = "exhaustEncryptionKey"


class OrgNotFoundError(SourceError):
    """The org search does not have the org."""


class OrgApiHook(SunbirdApiHook):
    """The user-org service.

    :param preferences_path: path of the orgs' preferences below the connection's URL
    :param search_path: path of the org search
    :param timeout_seconds: how long one answer may take
    """

    default_conn_name = "progress_exhaust_org"
    api = "User-org API"

    def __init__(self, *, preferences_path: str, search_path: str, timeout_seconds: float) -> None:
        super().__init__(timeout_seconds=timeout_seconds)
        self._preferences_path = preferences_path
        self._search_path = search_path

    def __enter__(self) -> Self:
        try:
            return super().__enter__()
        except AirflowNotFoundException:
            raise SetupError(
                f"The connection {self.default_conn_name} is missing: the orgs' security policies are read from it. Add it in "
                "Airflow. If no org of the site has a policy, set org_policy_source to none"
            ) from None

    def security_policy(self, org_id: str) -> Any:
        """Return the policy of an org as it is stored; None if the org has no policy."""
        answer = self._send("POST", self._preferences_path, json={"request": {"orgId": org_id, "key": POLICY}})
        if answer.status == 404 and answer.response_code == NOT_FOUND:
            return None
        return self._response(answer, self._preferences_path).get("data")

    def public_key_url(self, org_id: str) -> str | None:
        """Return the URL of an org's public key; None if the org has no key.

        Raises RequestError if the org's record has a value that is not a URL.
        """
        answer = self._send("POST", self._search_path, json={"request": {"filters": {"id": org_id}}})
        content = self._response(answer, self._search_path).get("content")
        found = [org for org in content if isinstance(org, dict) and org.get("id") == org_id] if isinstance(content, list) else []
        if not found:
            # The org exists, because it asks for a report. So the search is wrong, and the org may have a key.
            raise OrgNotFoundError(f"{self._where()} does not find the org {org_id}. Its index may be incomplete")
        keys = found[0].get("keys") or {}
        urls = keys.get(PUBLIC_KEYS) if isinstance(keys, dict) else [None]
        if urls is None or urls == []:
            return None
        url = urls[0] if isinstance(urls, list) else urls
        if not isinstance(url, str) or not url:
            raise RequestError(
                "The URL of the org's public key is not valid. Let the org enter it again in its settings, then ask again"
            )
        return url

    def _response(self, answer: Answer, path: str) -> dict[str, Any]:
        result = self._result(answer, path)
        code, response = answer.response_code, result.get("response")
        if code not in (None, "OK"):
            raise SourceError(f"{self._where()} answered {path} with {str(code)[:60]} {answer.message}")
        if response is not None and not isinstance(response, dict):
            raise SourceError(f"{self._where()} answered {path} with something other than the API's JSON")
        return response or {}
