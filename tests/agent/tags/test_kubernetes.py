"""What cgroup paths of pods say, as kubelets and container runtimes write them."""

from __future__ import annotations

import pytest

from agent.model import ProcessFacts
from agent.settings import Tags
from agent.tags.kubernetes import KubernetesTags

UID = "2d3f1c6e-8a14-4b52-9c5e-7f0f6d1b2a3c"
SCOPED = UID.replace("-", "_")
CONTAINER = "0123456789abcdef" * 4
KEYS = Tags(keys=("project", "pod_uid", "container_id"))


def process(cgroup: str) -> ProcessFacts:
    return ProcessFacts(pid=1, start_ticks=1, cgroup=cgroup)


@pytest.mark.parametrize(
    "cgroup",
    [
        f"/kubepods/burstable/pod{UID}/{CONTAINER}",
        f"/kubepods/pod{UID}/{CONTAINER}",
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SCOPED}.slice/cri-containerd-{CONTAINER}.scope",
        f"/kubepods.slice/kubepods-pod{SCOPED}.slice/crio-{CONTAINER}.scope",
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SCOPED}.slice/docker-{CONTAINER}.scope/init.scope",
        f"/docker/{'f' * 64}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{SCOPED}.slice/crio-{CONTAINER}.scope",
        f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{SCOPED}.slice/cri-containerd-{CONTAINER}.scope",
    ],
)
def test_pod_and_container_are_read_from_either_driver(cgroup: str) -> None:
    assert KubernetesTags(KEYS).tags(process(cgroup), "GPU-1", "A100") == {"pod_uid": UID, "container_id": CONTAINER}


def test_a_static_pod_has_a_hash_for_its_uid() -> None:
    uid = "0123456789abcdef" * 2
    assert KubernetesTags(KEYS).tags(process(f"/kubepods/pod{uid}"), "GPU-1", "A100") == {"pod_uid": uid}


@pytest.mark.parametrize(
    "cgroup",
    ["", "/", "/system.slice/ollama.service", f"/system.slice/docker-{CONTAINER}.scope", "/kubepods/burstable",
     "/kubepods/podx/y", f"/machine.slice/libpod-{CONTAINER}.scope"],
)  # fmt: skip
def test_a_process_in_no_pod_has_no_tags(cgroup: str) -> None:
    assert KubernetesTags(KEYS).tags(process(cgroup), "GPU-1", "A100") == {}


def test_without_its_keys_it_says_nothing() -> None:
    assert KubernetesTags(Tags()).tags(process(f"/kubepods/pod{UID}/{CONTAINER}"), "GPU-1", "A100") == {}
