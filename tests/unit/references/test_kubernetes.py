"""Images in Kubernetes objects, in the shapes that `kubectl`, `helm template` and `kustomize build` print."""

import json

import pytest

from syncer.references.documents import MAX_DEPTH
from syncer.references.formats import read_references

POD = """\
spec:
  initContainers: [{name: wait, image: busybox}]
  containers:
    - name: web
      image: nginx:1.27
      env:
        - {name: RELATED_IMAGE_PROXY, value: quay.io/acme/proxy:v2}
        - {name: OTHER, value: quay.io/acme/other:v2}
    - {name: sidecar, image: "quay.io/acme/sidecar@sha256:%s"}
  ephemeralContainers: [{name: debug, image: "localhost:5000/debug:1"}]
  volumes:
    - name: model
      image: {reference: "quay.io/acme/model:v1", pullPolicy: IfNotPresent}
""" % ("a" * 64)
POD_IMAGES = {
    "docker.io/library/busybox:latest",
    "docker.io/library/nginx:1.27",
    f"quay.io/acme/sidecar@sha256:{'a' * 64}",
    "localhost:5000/debug:1",
    "quay.io/acme/model:v1",
    "quay.io/acme/proxy:v2",
}


def found(text, name="manifest.yaml"):
    return read_references(name, text).references


def indented(text, by):
    return "".join(f"{' ' * by}{line}\n" for line in text.splitlines())


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "Job", "ReplicaSet", "Rollout"])
def test_pod_template_of_any_kind(kind):
    text = f"apiVersion: example.com/v1\nkind: {kind}\nspec:\n  template:\n{indented(POD, 4)}"
    assert found(text) == POD_IMAGES


def test_pod_and_cron_job_and_list_and_several_documents():
    pod = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\n{POD}"
    cron = f"apiVersion: batch/v1\nkind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n{indented(POD, 8)}"
    items = f"apiVersion: v1\nkind: List\nitems:\n  - apiVersion: v1\n    kind: Pod\n{indented(POD, 4)}"
    assert found(pod) == found(cron) == found(items) == POD_IMAGES
    other = "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: redis}]}\n"
    assert found(f"---\n# Source: a.yaml\n{pod}---\n---\n# nothing\n---\n{other}") == {
        *POD_IMAGES,
        "docker.io/library/redis:latest",
    }


@pytest.mark.parametrize(
    "spec",
    [
        "{templates: [{container: {image: acme/app:1}}]}",  # Argo Workflows
        "{templates: [{script: {image: acme/app:1, source: x}}]}",
        "{steps: [{image: acme/app:1}]}",  # Tekton
        "{image: acme/app:1}",  # Prometheus and many others
        "{kafka: {image: acme/app:1}}",  # Strimzi
        "{imageName: docker.io/acme/app:1}",  # CloudNativePG
        "{runnerImage: docker.io/acme/app:1}",
        "{image: {repository: acme/app, tag: '1'}}",
        "{image: {registry: docker.io, repository: acme/app, tag: 1}}",
        "{containers: [{args: ['--acme-http01-solver-image=docker.io/acme/app:1']}]}",  # cert-manager
        "{from: {kind: DockerImage, name: acme/app:1}}",  # OpenShift
        "{relatedImages: [{name: app, image: acme/app:1}]}",  # Operator Lifecycle Manager
    ],
)
def test_custom_resource_names_an_image(spec):
    assert found(f"apiVersion: example.com/v1\nkind: Any\nspec: {spec}\n") == {"docker.io/acme/app:1"}


@pytest.mark.parametrize(
    "document",
    [
        # What is left out: schemas, data, patterns of policies, former states, annotations, empty fields.
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec: {image: nginx}",
        "apiVersion: v1\nkind: ConfigMap\ndata: {image: nginx}",
        "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nspec: {containers: [{image: '*:latest'}]}",
        "apiVersion: v1\nkind: Pod\nstatus: {containerStatuses: [{image: nginx, imageID: docker.io/a/b@sha256:1}]}",
        "apiVersion: v1\nkind: Pod\nmetadata: {annotations: {image: nginx}}",
        "apiVersion: apps.openshift.io/v1\nkind: DeploymentConfig\nspec: {containers: [{image: ' '}, {image: ''}]}",
        "apiVersion: v1\nkind: Pod\nspec: {containers: [{args: ['--to=db.example.com/x:80', '--url=https://a.b/c:d']}]}",
        "apiVersion: cluster.x-k8s.io/v1\nkind: Machine\nspec: {image: {id: ami-1}, baseImage: ubuntu-2404}",
    ],
)
def test_field_that_names_no_image_to_copy_is_left_out(document):
    result = read_references("a.yaml", document)
    assert (result.references, result.unresolved, result.problem) == (set(), [], None)


def test_kubeadm_images_as_yaml_and_json():
    names = ["registry.k8s.io/pause:3.10", "registry.k8s.io/etcd:3.5.16-0"]
    document = {"apiVersion": "output.kubeadm.k8s.io/v1alpha3", "kind": "Images", "images": names}
    text = json.dumps(document)
    assert found(text, "") == found(text, "a.yaml") == set(names)


def test_kubectl_json_with_several_documents():
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"image": "a/b:1", "name": "\ud83d"}]}}
    many = {"apiVersion": "v1", "kind": "List", "items": [pod]}
    assert found(f"{json.dumps(many)}\n{json.dumps(pod).replace('a/b', 'a/c')}\n", "") == {
        "docker.io/a/b:1",
        "docker.io/a/c:1",
    }
    assert found(json.dumps([pod]), "pods.json") == {"docker.io/a/b:1"}


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("'{{ .Values.image }}:{{ .Values.tag }}'", "a template"),
        ("acme/app:${TAG}", "variable TAG has no default"),
        ("$(params.image)", "dollar sign"),
        ("auto", "Istio"),
        ("ko://github.com/acme/app", "not a"),
        ("IMAGE", "upper case"),
        ("{repository: acme/app}", "no tag"),
    ],
)
def test_image_that_cannot_be_resolved_is_reported_with_its_line(image, reason):
    yaml = f"apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: a\n    image: {image}\n"
    result = read_references("a.yaml", yaml)
    assert not result.references
    ((line, text),) = [(each.line, each.reason) for each in result.unresolved]
    assert line == 6
    assert reason in text


def test_json_line_of_an_unresolved_image():
    text = json.dumps({"apiVersion": "v1", "kind": "Pod", "spec": {"image": 'a:"${T}"'}}, indent=1)
    (unresolved,) = read_references("a.json", text).unresolved
    assert text.splitlines()[unresolved.line - 1].strip().startswith('"image"')


def test_variable_with_default_is_resolved():
    assert found("apiVersion: v1\nkind: Pod\nspec: {image: 'acme/app:${TAG:=v1}'}\n") == {
        "docker.io/acme/app:v1"
    }


def test_chart_template_is_read_line_by_line():
    text = (
        "{{- if .Values.on }}\napiVersion: v1\nkind: Pod\nspec:\n  containers:\n"
        "  - image: {{ .Values.image }}\n  - image: redis:7 # fixed\n  - image: '{{ .a }}'\n{{- end }}\n"
    )
    result = read_references("pod.yaml", text)
    assert result.references == {"docker.io/library/redis:7"}
    assert [each.line for each in result.unresolved] == [6, 8]
    assert result.problem is None


def test_documents_before_an_error_are_read():
    result = read_references("a.yaml", f"apiVersion: v1\nkind: Pod\n{POD}---\na: [\n")
    assert result.references == POD_IMAGES
    assert result.problem
    assert result.problem.line >= 17


def aliases(levels):
    """A bomb: each level is ten times the one before."""
    lines = ["a0: &a0 {image: acme/app:1}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "apiVersion: v1\nkind: Any\n" + "\n".join(lines) + "\n"


def test_aliases_are_not_expanded():
    assert found(aliases(50)) == {"docker.io/acme/app:1"}


@pytest.mark.parametrize("opening", ['{"a":', "["])
@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
@pytest.mark.parametrize("levels", [MAX_DEPTH + 10, 5_000])
def test_depth_is_bounded(opening, name, levels):
    result = read_references(name, opening * levels)
    assert result.problem
    text = opening * levels + "1" + ("}" if opening[0] == "{" else "]") * levels
    assert read_references(name, text).problem


def test_merged_keys_and_tags_are_read():
    text = (
        "apiVersion: v1\nkind: Any\nx: &x {image: acme/app:1}\n"
        "a: {<<: *x}\nb: {<<: [*x], image: !custom acme/app:2}\nc: *x\n"
    )
    assert found(text) == {"docker.io/acme/app:1", "docker.io/acme/app:2"}
