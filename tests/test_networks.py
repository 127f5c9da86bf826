"""Networks: the head against its formula, weights from files, and all that does not fit."""

import sys
from functools import partial
from urllib.error import URLError

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torchvision.models import AlexNet_Weights, alexnet

from skhash.deep.networks import (
    HashNetwork,
    TwoTapHead,
    build_network,
    choose_image_size,
    choose_network,
)

same = partial(torch.testing.assert_close, rtol=0, atol=0)


@pytest.fixture(autouse=True)
def _leave_generator_alone():
    state = torch.get_rng_state()
    torch.manual_seed(0)
    yield
    torch.set_rng_state(state)


def small_backbone():
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())


def same_state(module, other):
    assert module.state_dict().keys() == other.state_dict().keys()
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def save_state(module, path):
    torch.save(module.state_dict(), path)
    return path


# The head.


def test_head_is_its_formula():
    head = TwoTapHead(6, 3, hidden_size=5, dropout=0.5).eval()
    x = torch.randn(7, 6)
    a = (x @ head.fca.weight.T + head.fca.bias).clamp(min=0)
    b = (a @ head.fcb.weight.T + head.fcb.bias).clamp(min=0)
    from_a, from_b = head.hash.weight.split(5, dim=1)
    torch.testing.assert_close(head(x), a @ from_a.T + b @ from_b.T + head.hash.bias)


@pytest.mark.parametrize("tap", ["fca", "fcb"])
def test_hash_layer_reads_both_taps(tap):
    head = TwoTapHead(6, 3, hidden_size=5, dropout=0.0)
    x = torch.randn(7, 6)
    before = head(x)
    with torch.no_grad():
        # Deaf to the other tap, so that FCa is not heard through FCb.
        dict(zip(["fcb", "fca"], head.hash.weight.split(5, dim=1), strict=True))[tap].zero_()
        deaf = head(x)
        getattr(head, tap).weight.mul_(2)
    assert not torch.equal(deaf, before)
    assert not torch.equal(head(x), deaf)


@pytest.mark.parametrize("tap", ["fca", "fcb"])
def test_head_of_one_tap_is_that_of_both_deaf_to_the_other(tap):
    single = TwoTapHead(6, 3, hidden_size=5, dropout=0.5, taps=tap).eval()
    both = TwoTapHead(6, 3, hidden_size=5, dropout=0.5).eval()
    for own, other in zip(both.layers()[:-1], single.layers()[:-1], strict=False):
        own.load_state_dict(other.state_dict())
    both.hash.bias = single.hash.bias
    with torch.no_grad():
        both.hash.weight.zero_()
        columns = slice(5) if tap == "fca" else slice(5, 10)
        both.hash.weight[:, columns] = single.hash.weight
    x = torch.randn(7, 6)
    torch.testing.assert_close(both(x), single(x))
    n_layers = {"fca": 2, "fcb": 3}[tap]
    assert len(single.layers()) == n_layers


def test_dropout_acts_only_in_training():
    head = TwoTapHead(6, 3, hidden_size=50, dropout=0.5)
    x = torch.randn(7, 6)
    assert not torch.equal(head(x), head(x))
    head.eval()
    same(head(x), head(x))
    plain = TwoTapHead(6, 3, hidden_size=50, dropout=0.0)
    plain.load_state_dict(head.state_dict())
    same(plain.train()(x), head(x))


def test_dropout_spares_what_the_hash_layer_reads_of_fca():
    head = TwoTapHead(6, 3, hidden_size=50, dropout=0.5)
    x = torch.randn(7, 6)
    with torch.no_grad():
        head.hash.weight[:, 50:] = 0
    same(head(x), head(x))
    with torch.no_grad():
        nn.init.normal_(head.hash.weight)
        head.hash.weight[:, :50] = 0
    assert not torch.equal(head(x), head(x))


@pytest.mark.parametrize("layer", ["fcb", "hash"])
def test_dropout_at_input_and_output_of_fcb(layer):
    head, seen = TwoTapHead(6, 3, hidden_size=1000, dropout=0.25), []
    with torch.no_grad():
        head.fca.bias.fill_(100)  # no unit is 0 unless dropped
        head.fcb.weight.abs_()
    getattr(head, layer).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    head(torch.randn(7, 6))
    dropped = (seen[0][:, -1000:] == 0).float().mean().item()
    assert dropped == pytest.approx(0.25, abs=0.03)


def test_head_starts_away_from_zero_codes():
    projection = TwoTapHead(200, 48, hidden_size=300, dropout=0.0)(torch.randn(100, 200))
    assert 0.5 < projection.std() < 3


# The network around it.


@pytest.mark.parametrize(
    ("mean", "std"), [(100.0, 50.0), ((10.0, 20.0, 30.0), (1.0, 2.0, 4.0)), (0, (5.0, 6.0, 7.0))]
)
def test_input_is_normalised_per_channel(mean, std):
    network = HashNetwork(nn.Identity(), nn.Identity(), n_features=12, mean=mean, std=std)
    x = torch.randint(256, (5, 3, 2, 2)).float()
    expected = (x - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    torch.testing.assert_close(network.features(x), expected.flatten(1))


def test_bytes_are_normalised_without_wrapping_around():
    network = HashNetwork(nn.Identity(), nn.Identity(), n_features=12, mean=100.0, std=50.0)
    x = torch.randint(256, (5, 3, 2, 2), dtype=torch.uint8)
    same(network.features(x), network.features(x.float()))


def test_standardized_features_have_mean_0_and_variance_1():
    network = build_network(small_backbone, 4, input_shape=(3, 8, 8), hidden_size=5).eval()
    x = torch.randint(256, (50, 3, 8, 8))
    features = network.features(x).detach()
    mean, scale = features.mean(0), features.std(0, correction=0) + 1e-3
    network.standardize(mean.numpy(), scale.numpy())
    seen = []
    network.head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    same(network(x), network.project(network.features(x)))
    torch.testing.assert_close(seen[0], (features - mean) / scale)
    # It is part of the weights, and undone by the trivial one.
    other = build_network(small_backbone, 4, input_shape=(3, 8, 8), hidden_size=5).eval()
    other.load_state_dict(network.state_dict())
    same(other(x), network(x))
    other.standardize(0.0, 1.0)
    same(other(x), other.head(other.features(x)))


# What is built.


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (64, 64), (9, 31)])
def test_convnet(size):
    network = build_network("convnet", 12, input_shape=(3, *size))
    assert network.training
    images = torch.randint(256, (4, 3, *size), dtype=torch.uint8)
    assert network(images).shape == (4, 12)
    assert network.features(images).shape == (4, 128)
    assert network.head.fca.out_features == network.head.fcb.out_features == 512


def test_convnet_reads_weights(tmp_path):
    backbone = build_network("convnet", 12, input_shape=(3, 8, 8)).backbone
    path = save_state(backbone, tmp_path / "weights.pt")
    for weights in (path, str(path)):
        network = build_network("convnet", 7, input_shape=(3, 16, 16), weights=weights)
        same_state(network.backbone, backbone)
    other = build_network("convnet", 12, input_shape=(3, 8, 8)).backbone
    assert not torch.equal(other[0].weight, backbone[0].weight)


def test_mlp_is_the_head_on_raw_rows():
    network = build_network("mlp", 12, input_shape=(20,), hidden_size=30, dropout=0.25)
    assert network.head.fca.weight.shape == (30, 20)
    assert network.head.dropout.p == 0.25
    x = torch.randn(4, 20)
    same(network.features(x), x)
    same(network.eval()(x), network.head(x))
    assert build_network("mlp", 12, input_shape=(20,)).head.fca.out_features == 512


def test_factory():
    made = []

    def factory():
        made.append(small_backbone())
        return made[-1]

    network = build_network(factory, 6, input_shape=(3, 9, 9), hidden_size=5)
    assert network.training
    assert len(made) == 1
    # A copy, so that no training changes a module that a factory returns twice.
    assert network.backbone is not made[0]
    same_state(network.backbone, made[0])
    images = torch.randint(256, (2, 3, 9, 9))
    # Further axes than two are flattened: 4 channels of 4 x 4.
    assert network.features(images).shape == (2, 64)
    torch.testing.assert_close(
        network.features(images), made[0]((images - 127.5) / 127.5).flatten(1)
    )
    assert network(images).shape == (2, 6)


def test_class_of_modules_is_a_factory():
    network = build_network(nn.Flatten, 6, input_shape=(3, 2, 2), hidden_size=5)
    assert isinstance(network.backbone, nn.Flatten)


def test_factory_for_feature_rows_gets_them_raw():
    network = build_network(partial(nn.Linear, 20, 8), 6, input_shape=(20,), hidden_size=5)
    x = torch.randn(4, 20)
    same(network.features(x), network.backbone(x))


def test_factory_reads_weights(tmp_path):
    backbone = small_backbone()
    path = save_state(backbone, tmp_path / "weights.pt")
    network = build_network(small_backbone, 6, input_shape=(3, 9, 9), weights=path)
    same_state(network.backbone, backbone)


def test_counting_features_leaves_batch_statistics_alone():
    factory = lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Flatten())  # noqa: E731
    network = build_network(factory, 6, input_shape=(3, 4, 4), hidden_size=5)
    same_state(network.backbone[0], nn.BatchNorm2d(3))


def test_normalization_is_copied():
    mean = np.full(3, 10, dtype=np.float32)
    network = build_network(
        nn.Flatten, 6, input_shape=(3, 2, 2), hidden_size=5, normalization=(mean, mean)
    )
    mean[:] = 0
    assert network.mean.flatten().tolist() == network.std.flatten().tolist() == [10, 10, 10]


@pytest.mark.parametrize("normalization", [(10, 20), ((1, 2, 3), 4.0), ([1, 2, 3], (4, 5, 6))])
def test_normalization_replaces_the_default(normalization):
    network = build_network(
        nn.Flatten, 6, input_shape=(3, 2, 2), hidden_size=5, normalization=normalization
    )
    x = torch.randint(256, (4, 3, 2, 2)).float()
    mean, std = (torch.tensor(part).float().view(-1, 1, 1) for part in normalization)
    torch.testing.assert_close(network.features(x), ((x - mean) / std).flatten(1))


# AlexNet: one of full size.


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A torchvision AlexNet, the file of its state dict, and the hash network it starts."""
    with torch.random.fork_rng([]):
        model = alexnet().eval()
        path = save_state(model, tmp_path_factory.mktemp("alexnet") / "alexnet.pt")
        network = build_network("alexnet", 48, input_shape=(3, 224, 224), weights=str(path))
    path.unlink()
    return model, network.eval()


def test_alexnet_starts_from_pretrained_layers(pretrained):
    model, network = pretrained
    same_state(network.backbone[0], model.features)
    same_state(network.head.fca, model.classifier[1])
    same_state(network.head.fcb, model.classifier[4])
    assert network.head.hash.weight.shape == (48, 2 * 4096)


def test_alexnet_computes_what_torchvision_computes(pretrained):
    model, network = pretrained
    image = torch.randint(256, (1, 3, 224, 224), dtype=torch.uint8)
    # The normalisation that torchvision's weights say they were trained with.
    made_for = AlexNet_Weights.IMAGENET1K_V1.transforms()
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (made_for.mean, made_for.std))
    seen = []
    hook = network.head.hash.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        network(image)
        features = model.avgpool(model.features((image / 255 - mean) / std)).flatten(1)
        a = model.classifier[:3](features)
        b = model.classifier[3:6](a)
    hook.remove()
    torch.testing.assert_close(seen[0], torch.cat([a, b], dim=1), rtol=1e-4, atol=1e-5)


def test_alexnet_pools_images_of_other_sizes_to_the_same_features():
    network = build_network("alexnet", 8, input_shape=(3, 100, 64), hidden_size=16)
    assert network.features(torch.zeros(2, 3, 100, 64)).shape == (2, 256 * 6 * 6)


def test_alexnet_weights_may_be_a_name(pretrained, monkeypatch):
    model, _ = pretrained
    state, asked = model.state_dict(), []
    monkeypatch.setattr(
        AlexNet_Weights, "get_state_dict", lambda self, **_: asked.append(self) or state
    )
    # A small head would not fit: the weights were taken, by any name.
    names = ["IMAGENET1K_V1", "DEFAULT", "AlexNet_Weights.IMAGENET1K_V1"]
    for name in names:
        with pytest.raises(ValueError, match=r"hidden_size should be 'auto' .*\(4096, 9216\)"):
            build_network("alexnet", 8, input_shape=(3, 64, 64), weights=name, hidden_size=16)
    assert asked == len(names) * [AlexNet_Weights.IMAGENET1K_V1]


@pytest.mark.parametrize(
    ("network", "image_size", "chosen"),
    [
        ("auto", None, "mlp"),
        ("auto", (64, 64), "convnet"),
        ("auto", (64, 65), "alexnet"),
        ("auto", "files", "alexnet"),
        ("mlp", (64, 64), "mlp"),
        (small_backbone, None, small_backbone),
    ],
)
def test_choice_of_network(network, image_size, chosen):
    assert choose_network(network, image_size) == chosen


@pytest.mark.parametrize(
    ("image_size", "network", "native_size", "chosen"),
    [
        (32, "auto", None, (32, 32)),
        ((32, 48), "alexnet", (9, 9), (32, 48)),
        ("auto", "alexnet", (9, 9), (224, 224)),
        ("auto", "auto", (9, 9), (9, 9)),
        ("auto", "auto", (9, 99), (224, 224)),
        ("auto", "auto", None, (224, 224)),
        ("auto", small_backbone, (99, 9), (99, 9)),
    ],
)
def test_choice_of_image_size(image_size, network, native_size, chosen):
    assert choose_image_size(image_size, network, native_size) == chosen


# timm.


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "test_resnet"])
def test_timm_model_with_weights_from_a_file(name, tmp_path):
    model = timm.create_model(name, num_classes=1000).eval()
    path = save_state(model, tmp_path / "weights.pt")
    size = model.pretrained_cfg["input_size"][-1]
    network = build_network(f"timm:{name}", 8, input_shape=(3, size, size), weights=path).eval()
    image = torch.randint(256, (2, 3, size, size), dtype=torch.uint8)
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = model.forward_head(
            model.forward_features((image / 255 - mean) / std), pre_logits=True
        )
        torch.testing.assert_close(network.features(image), expected, rtol=1e-4, atol=1e-5)
    assert network(image).shape == (2, 8)


def test_timm_weights_without_classifier(tmp_path):
    model = timm.create_model("test_resnet", num_classes=0)
    path = save_state(model, tmp_path / "weights.pt")
    network = build_network("timm:test_resnet", 8, input_shape=(3, 64, 64), weights=path)
    same_state(network.backbone, model)


@pytest.mark.parametrize("weights", [None, "pretrained"])
def test_timm_pretrained_is_asked_for_by_name_only(weights, monkeypatch):
    create, asked = timm.create_model, []

    def record(name, *, pretrained, **params):
        asked.append(pretrained)
        return create(name, **params)

    monkeypatch.setattr(timm, "create_model", record)
    build_network("timm:test_resnet", 8, input_shape=(3, 64, 64), weights=weights)
    assert asked == [weights == "pretrained"]


@pytest.mark.parametrize(
    ("network", "weights", "owner", "fetch"),
    [
        ("alexnet", "IMAGENET1K_V1", AlexNet_Weights, "get_state_dict"),
        ("timm:test_resnet", "pretrained", timm, "create_model"),
    ],
)
def test_error_without_a_network(network, weights, owner, fetch, monkeypatch):
    def fail(*_, **__):
        raise URLError("Name or service not known")

    # A machine that reaches no server.
    monkeypatch.setattr(owner, fetch, fail)
    message = f"weights='{weights}'.* could not be fetched: .*not known.* weights=FILE, the file"
    with pytest.raises(OSError, match=message):
        build_network(network, 8, input_shape=(3, 64, 64), weights=weights)


def test_error_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="needs the package timm; `pip install timm`"):
        build_network("timm:test_resnet", 8, input_shape=(3, 64, 64))


def test_error_on_unknown_timm_model():
    with pytest.raises(ValueError, match="'timm:resnet1' names no model of timm"):
        build_network("timm:resnet1", 8, input_shape=(3, 64, 64))


# Errors.


@pytest.mark.parametrize("network", ["resnet", "AlexNet", "auto", ""])
def test_error_on_unknown_network(network):
    message = rf"one of \['alexnet', 'convnet', 'mlp'\], 'timm:NAME' or a callable .*{network!r}"
    with pytest.raises(ValueError, match=message):
        build_network(network, 8, input_shape=(3, 8, 8))


@pytest.mark.parametrize("network", [nn.Flatten(), None, 3])
def test_error_on_what_makes_no_network(network):
    with pytest.raises(
        TypeError, match=r"name or a callable that returns a new torch\.nn\.Module"
    ):
        build_network(network, 8, input_shape=(3, 8, 8))


@pytest.mark.parametrize(("result", "got"), [(None, "NoneType"), (nn.Flatten, "type")])
def test_error_on_factory_that_returns_no_module(result, got):
    with pytest.raises(TypeError, match=f"should return a torch.nn.Module, got {got}"):
        build_network(lambda: result, 8, input_shape=(3, 8, 8))


@pytest.mark.parametrize(
    ("network", "input_shape"),
    [
        ("alexnet", (3, 20, 20)),
        ("alexnet", (20,)),
        ("convnet", (20,)),
        ("timm:test_vit", (3, 50, 50)),
        (small_backbone, (3, 2, 2)),
        (partial(nn.BatchNorm1d, 3), (3, 8, 8)),
        (partial(nn.Linear, 10, 5), (20,)),
    ],
)
def test_error_on_input_that_the_backbone_does_not_take(network, input_shape):
    with pytest.raises(ValueError, match="does not take input of shape") as error:
        build_network(network, 8, input_shape=input_shape)
    assert str(input_shape) in str(error.value)
    assert error.value.__cause__ is not None


class Returns(nn.Module):
    def __init__(self, result):
        super().__init__()
        self.result = result

    def forward(self, inputs):  # noqa: ARG002
        return self.result


@pytest.mark.parametrize(
    ("result", "got"),
    [
        (torch.zeros(5), r"torch.Size\(\[5\]\)"),
        ((torch.zeros(1, 5),), "tuple"),
        (None, "NoneType"),
    ],
)
def test_error_on_output_that_is_no_batch_of_features(result, got):
    with pytest.raises(ValueError, match=rf"\(n_samples, n_features\), got {got}"):
        build_network(partial(Returns, result), 8, input_shape=(3, 8, 8))


with_weights = pytest.mark.parametrize(
    "network", ["alexnet", "convnet", "timm:test_resnet", small_backbone]
)


def alternatives(network):
    return {
        "alexnet": r"or one of \['DEFAULT', 'IMAGENET1K_V1'\]",
        "timm:test_resnet": "or 'pretrained'",
    }.get(network, "dict")


@with_weights
def test_error_on_missing_weights(network, tmp_path):
    path = tmp_path / "absent.pt"
    message = rf"{alternatives(network)}, got .*absent\.pt', which does not exist"
    with pytest.raises(FileNotFoundError, match=message):
        build_network(network, 8, input_shape=(3, 64, 64), weights=path)


class Unsafe:
    def __reduce__(self):
        return (pytest.fail, ("code in the file was run",))


def write_garbage(path, kind):
    if kind == "pickle":
        torch.save({"weight": Unsafe()}, path)
        return
    state = {"weight": torch.arange(1000.0)}
    torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "text": b"no weights in here",
            "noise": bytes(range(255, 0, -1)),
            "opcodes": b"0" * 20,
            "cut": whole[: len(whole) // 2],
        }[kind]
    )


@pytest.mark.parametrize("kind", ["empty", "text", "noise", "opcodes", "cut", "pickle"])
def test_error_on_garbage_weights(kind, tmp_path):
    write_garbage(tmp_path / "garbage.pt", kind)
    with pytest.raises(ValueError, match=r"garbage\.pt' is not a state dict that torch reads"):
        build_network("convnet", 8, input_shape=(3, 8, 8), weights=tmp_path / "garbage.pt")


@pytest.mark.parametrize(
    ("content", "got"),
    [(torch.zeros(3), "Tensor"), ([1, 2], "list"), ({1: torch.zeros(3)}, "dict")],
)
def test_error_on_weights_that_are_no_state_dict(content, got, tmp_path):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=f"should hold a state dict, .*got {got}"):
        build_network("convnet", 8, input_shape=(3, 8, 8), weights=tmp_path / "other.pt")


@with_weights
def test_error_on_weights_of_another_network(network, tmp_path):
    path = save_state(nn.Linear(3, 2), tmp_path / "linear.pt")
    message = r"(?s)weights='.*linear\.pt' do not fit the network: .*(Missing|Unexpected) key"
    with pytest.raises(ValueError, match=message):
        build_network(network, 8, input_shape=(3, 64, 64), weights=path)


def test_error_on_weights_of_another_shape(tmp_path):
    path = save_state(nn.Sequential(nn.Conv2d(3, 5, 3)), tmp_path / "wide.pt")
    with pytest.raises(ValueError, match=r"(?s)do not fit the network: .*size mismatch"):
        build_network(small_backbone, 8, input_shape=(3, 9, 9), weights=path)


def test_error_on_weights_for_mlp():
    with pytest.raises(ValueError, match=r"'mlp' has no pretrained weights, got .*'a\.pt'"):
        build_network("mlp", 8, input_shape=(20,), weights="a.pt")


@pytest.mark.parametrize(
    "normalization",
    [
        (1.0,),
        (1.0, 2.0, 3.0),
        ((1.0, 2.0), 1.0),
        (0.0, (1.0, 2.0, 3.0, 4.0)),
        (0.0, 0.0),
        (0.0, -1.0),
        ((1, 2, 3), (1, 0, 1)),
        (float("nan"), 1.0),
        (0.0, float("inf")),
        ("mean", "std"),
        (None, None),
    ],
)
def test_error_on_normalization(normalization):
    with pytest.raises(ValueError, match=r"normalization should be 'auto' or a tuple \(mean, std"):
        build_network(small_backbone, 8, input_shape=(3, 9, 9), normalization=normalization)


@pytest.mark.parametrize("part", [(1.0, 2.0, 3.0), (1.0,)])
def test_error_on_normalization_per_channel_for_feature_rows(part):
    with pytest.raises(ValueError, match="normalization should be"):
        build_network("mlp", 8, input_shape=(3,), normalization=(part, 1.0))
