"""The scripts and the job of docs/cluster.md: bash accepts them, and the operator finds what it looks for.

``test_documents.py`` parses the commands that they start.
"""

import re
import subprocess

import pytest
import yaml
from source import ROOT

TEXT = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
BASH, YAML = (re.findall(rf"^```{kind}\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE) for kind in ("bash", "yaml"))


@pytest.mark.parametrize("script", BASH)
def test_bash_accepts_the_scripts(script: str) -> None:
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_the_job_is_one_of_kubeflow() -> None:
    (text,) = YAML
    job = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    worker = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    assert worker["replicas"] == job["spec"]["elasticPolicy"]["maxReplicas"]
    (container,) = worker["template"]["spec"]["containers"]
    assert container["name"] == "pytorch"  # the operator looks for this one
    assert container["command"][0] == "torchrun"
    volumes = {volume["name"] for volume in worker["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
