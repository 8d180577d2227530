"""What the control group of a process in a Kubernetes pod says by itself: the pod's UID and the container's id.

It answers only where the tag keys ``pod_uid`` or ``container_id`` are configured. Names and labels of a pod are known to
the API server alone, which this program does not ask. To charge a pod to a project, hand its labels to the container's
environment as FINOPS_PROJECT and so on (the downward API: ``valueFrom.fieldRef.fieldPath: metadata.labels['project']``),
where the ``environ`` source finds them.

The path is made by the kubelet (``pod<UID>``; systemd's driver writes the UID's dashes as underscores) and by the
container runtime (64 hexadecimal digits, with ``cri-containerd-``, ``crio-`` or ``docker-`` before them under systemd).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from agent.model import ProcessFacts
from agent.settings import Tags

_POD = re.compile(r"kubepods.*?[/-]pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?(?=/|$)")
_CONTAINER = re.compile(r"/(?:[a-z-]+-)?([0-9a-f]{64})(?:\.scope)?(?=/|$)")


class KubernetesTags:
    """Reads ``pod_uid`` and ``container_id`` from the cgroup path."""

    def __init__(self, tags: Tags) -> None:
        self._keys = frozenset(tags.keys)

    def tags(self, facts: ProcessFacts, gpu_uuid: str, gpu_name: str) -> Mapping[str, str]:
        pod = _POD.search(facts.cgroup)
        if pod is None:
            return {}
        known = {"pod_uid": pod[1].replace("_", "-")}
        container = _CONTAINER.search(facts.cgroup, pod.end())
        if container is not None:
            known["container_id"] = container[1]
        return {key: value for key, value in known.items() if key in self._keys}
