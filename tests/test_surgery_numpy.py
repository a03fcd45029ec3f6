# ruff: noqa: E501 (programs stand on one line each)
from __future__ import annotations

import ast
import json
import math
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gradsight.finding import apply
from gradsight.surgery import Refusal, tensors_for_numpy
from gradsight.surgery.numpy_calls import table
from gradsight.text import Source
from surgery_cases import fix, gradients, place, refusal, run

ROWS = json.loads((Path(__file__).parent / "numpy_rows.json").read_text())


def inputs(dtype: type) -> dict[str, Any]:
    """The arrays that the rows' expressions are written over."""
    rng = np.random.default_rng(3)
    spd = rng.normal(size=(4, 4))
    floats = {
        "a": rng.normal(size=(3, 4)),
        "b": rng.normal(size=(3, 4)),
        "p": rng.uniform(0.2, 2.0, size=(3, 4)),
        "u": rng.uniform(-0.9, 0.9, size=(3, 4)),
        "u1": rng.uniform(0.1, 0.9, size=(3, 4)),
        "up": rng.uniform(0.1, 0.9, size=(3, 4)),
        "h": np.arange(12).reshape(3, 4) / 2,
        "v": rng.normal(size=4),
        "w": rng.normal(size=4),
        "vp": rng.uniform(0.2, 2.0, size=4),
        "v3": rng.normal(size=5),
        "k3": rng.normal(size=3),
        "c3": rng.normal(size=(2, 3, 4)),
        "M": spd @ spd.T + 4 * np.eye(4),
        "z01": (rng.uniform(size=(3, 4)) > 0.5) * 1.0,
        "g": np.sort(rng.normal(size=6)),
    }
    floats["an"] = floats["a"].copy()
    floats["an"][0, 1] = np.nan
    space: dict[str, Any] = {name: array.astype(dtype) for name, array in floats.items()}
    space |= {
        "i": rng.integers(1, 9, size=(3, 4)),
        "i1": np.array([0, 2, 5, 1, 3]),
        "i2": rng.integers(0, 2, size=(3, 4)),
        "i3": np.array([1, 0, 3]),
        "m": rng.uniform(size=(3, 4)) > 0.4,
        "m2": rng.uniform(size=(3, 4)) > 0.4,
    }
    space["m"][:, 0] = True
    return space


def program(expression: str, names: list[str]) -> str:
    lines = [f"    {name} = {name}.detach().numpy()\n" for name in names]
    return (
        f"import math\nimport numpy as np\nimport scipy\nimport torch\n\n\ndef f({', '.join(names)}):\n"
        f"{''.join(lines)}    r = {expression}\n    return torch.as_tensor(r)\n"
    )


def row_names(expression: str, known: dict[str, Any]) -> list[str]:
    found = [node.id for node in ast.walk(ast.parse(expression)) if isinstance(node, ast.Name)]
    return sorted({name for name in found if name in known})


def check_row(expression: str, reference: str, dtype: type) -> str:
    """What happened to one row: "equal", or why it is not."""
    arrays = inputs(dtype)
    names = row_names(expression, arrays)
    text = program(expression, names)
    floating = [name for name in names if arrays[name].dtype.kind == "f"]
    quoted = f"{(floating or names)[0]}.detach()"
    answer = tensors_for_numpy(Source("program.py", text), place(text, quoted))
    if isinstance(answer, Refusal):
        return f"refused: {answer.reason}"
    after = apply(text, answer)
    space: dict[str, Any] = {}
    tensors = {name: torch.tensor(arrays[name]) for name in names}
    for name in floating:
        tensors[name].requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if (
            "scipy" in expression
        ):  # which need not be installed: its row's own torch writing was compared with it
            wanted = np.asarray(
                eval(reference, {"torch": torch, **{n: torch.tensor(x) for n, x in arrays.items()}})
            )
        else:
            wanted = np.asarray(eval(expression, {"np": np, "math": math, **arrays}))
        try:
            exec(after.replace("import scipy\n", ""), space)
            given = space["f"](**tensors)
            shown = given.detach().numpy()
        except Exception as error:
            return f"raised {type(error).__name__}: {error}\n{after}"
    if shown.shape != wanted.shape or not np.allclose(
        shown, wanted, rtol=1e-5, atol=1e-5 if dtype is np.float32 else 1e-7, equal_nan=True
    ):
        return f"differs\n{after}"
    if not given.requires_grad:
        return f"no gradient\n{after}"
    weights = torch.linspace(0.5, 1.5, given.numel(), dtype=torch.float64).reshape(given.shape)
    (given * weights).nan_to_num().sum().backward()
    flows = any(t.grad is not None and bool(t.grad.nan_to_num().abs().sum() > 0) for t in tensors.values())
    return "equal" if flows else f"zero gradient\n{after}"


def _runnable() -> list[dict[str, str]]:
    return [row for row in ROWS if row["gradient"] == "nonzero"]


# Rows that are refused on purpose, each with the reason that the refusal names.
REFUSED = {
    "np.piecewise(a,[a<0,a>=0],[lambda x:-x,lambda x:2*x])": "np.piecewise",
    "np.gradient(v)": "unknown dimensions",
    "np.pad(v,1,mode='edge')": "unknown dimensions",
    "np.insert(v,1,9.0)": "np.insert",
    "np.linalg.lstsq(M,v,rcond=None)[0]": "np.linalg.lstsq",
    # lambdas that write into their argument
    "(lambda z:(np.add.at(z,i1,v3),z)[1])(np.zeros(6))": "inner function",
    "(lambda z:(z.sort(axis=0),z)[1])(a.copy())": "",
    "(lambda z:(z.__setitem__(z<0,0.0),z)[1])(a.copy())": "",
}


# (what stands before, the quoted conversion, what stands after); each runs as `f(pred, target)`.
FUNCTIONS = [
    (
        """\
def f(pred, target):
    p = pred.detach().cpu().numpy()  # leaves torch
    t = target.cpu().numpy()
    d = np.abs(p - t)
    loss = np.mean(d ** 2, axis=0).sum()
    print("loss", loss, f"{loss:.3f}")
    return torch.tensor(loss, requires_grad=True)
""",
        "pred.detach()",
        """\
def f(pred, target):
    p = pred  # leaves torch
    t = target
    d = torch.abs(p - t)
    loss = torch.mean(d ** 2, dim=0).sum()
    print("loss", loss.item(), f"{loss.item():.3f}")
    return loss
""",
    ),
    (
        """\
def f(pred, target):
    pred = pred.data.cpu().numpy()
    target = target.numpy()
    err = np.sqrt(((pred - target) ** 2).sum(axis=1)).astype(np.float32)
    weight = np.ones(err.shape[0]) * 2
    loss = torch.from_numpy(err * weight).float().mean()
    loss.requires_grad = True
    return loss
""",
        "pred.data",
        """\
def f(pred, target):
    err = torch.sqrt(((pred - target) ** 2).sum(dim=1)).float()
    weight = torch.ones(err.shape[0], dtype=pred.dtype, device=pred.device) * 2
    loss = (err * weight).float().mean()
    return loss
""",
    ),
    (
        """\
def f(pred, target, eps=1e-8):
    total = 0.0
    for i in range(pred.shape[0]):
        a = pred[i].detach().numpy()
        b = target[i].numpy()
        total += float(np.std(a) - np.median(b)) + eps
    return torch.tensor(total / pred.shape[0], requires_grad=True)
""",
        "pred[i].detach()",
        """\
def f(pred, target, eps=1e-8):
    total = 0.0
    for i in range(pred.shape[0]):
        a = pred[i]
        b = target[i]
        total += (torch.std(a, correction=0) - torch.quantile(b, 0.5)) + eps
    return total / pred.shape[0]
""",
    ),
    (
        """\
def f(pred, target):
    losses = []
    for p, t in zip(pred.detach().numpy(), target.numpy()):
        losses.append(np.max(np.abs(p - t)))
    return torch.tensor(np.mean(losses), requires_grad=True)
""",
        "pred.detach()",
        """\
def f(pred, target):
    losses = []
    for p, t in zip(pred, target):
        losses.append(torch.max(torch.abs(p - t)))
    return torch.mean(torch.stack(losses))
""",
    ),
    (
        """\
def f(pred, target):
    p = pred.detach().numpy()
    p = np.exp(p - p.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    picked = p[np.arange(p.shape[0]), 0]
    picked[picked < 1e-3] = 1e-3
    return torch.FloatTensor([-np.log(picked).mean()])
""",
        "pred.detach()",
        """\
def f(pred, target):
    p = pred
    p = torch.exp(p - p.amax(dim=1, keepdim=True))
    p = p / p.sum(dim=1, keepdim=True)
    picked = p[torch.arange(p.shape[0]), 0]
    picked = picked.masked_fill(picked < 1e-3, 1e-3)
    return torch.stack([-torch.log(picked).mean()])
""",
    ),
    (
        """\
def f(pred, target):
    p = pred.numpy(force=True)
    out = np.zeros(p.shape)
    for i in range(len(p)):
        out[i] = p[i] * 2 if i else p[i]
    keep = np.where(p > 0, p, 0.1 * p)
    return torch.as_tensor(out + keep + np.pi).sum()
""",
        "pred.numpy(force=True)",
        """\
def f(pred, target):
    p = pred
    out = torch.zeros(p.shape, dtype=pred.dtype)
    for i in range(len(p)):
        out[i] = p[i] * 2 if i else p[i]
    keep = torch.where(p > 0, p, 0.1 * p)
    return (out + keep + torch.pi).sum()
""",
    ),
    (
        """\
def f(pred, target):
    return np.exp(pred).sum() + np.sqrt(2) * np.abs(pred - target).mean()
""",
        "np.exp(pred)",
        None,
    ),
    (
        """\
def f(pred, target):
    p = np.asarray(pred.detach())
    if p.shape[0] > 2:
        s = np.clip(p, -1, None)
    else:
        s = p.copy()
        s[0] = 0
    best = int(s.argmax())
    rng = np.random.default_rng(0)
    noise = np.random.rand(*p.shape) * 0
    return torch.tensor((s - noise).mean() + p.ravel()[best] - 0 * np.mean(p > 0))
""",
        "pred.detach()",
        """\
def f(pred, target):
    p = pred
    if p.shape[0] > 2:
        s = torch.clamp(p, min=-1)
    else:
        s = p.clone()
        s[0] = 0
    best = int(s.argmax())
    rng = np.random.default_rng(0)
    noise = np.random.rand(*p.shape) * 0
    return (s - torch.as_tensor(noise)).mean() + p.ravel()[best] - 0 * torch.mean((p > 0).to(pred.dtype))
""",
    ),
]


@pytest.mark.parametrize(("before", "quoted", "after"), FUNCTIONS)
def test_a_function_is_written_in_torch(before: str, quoted: str, after: str | None) -> None:
    text = f"import numpy as np\nimport torch\n\n\n{before}"
    result = fix(tensors_for_numpy, text, quoted)
    if after is not None:
        head = "import numpy as np\nimport torch\n" if "np." in after else "import torch\n"
        assert result == f"{head}\n\n{after}"
    torch.manual_seed(1)
    pred, target = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    value = run(result)["f"](pred, target)
    value.sum().backward()
    assert pred.grad is not None
    assert bool(pred.grad.abs().sum() > 0)
    old = run(text)["f"]

    def array(value: Any) -> np.ndarray:
        return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)

    if quoted == "np.exp(pred)":
        with pytest.raises(RuntimeError, match="requires grad"):
            old(pred, target)
        wanted = old(pred.detach().numpy(), target.numpy())
    else:
        wanted = old(pred, target)
    assert np.allclose(array(value), array(wanted), rtol=1e-5, atol=1e-6)


# Lines between `p, t = arrays of pred and target` and the tensor made of `r`; each keeps its value and gets a gradient.
SNIPPETS = [
    "r = p.mean(0).sum() + p.max(1).sum() + p.std(0).sum() + p.sum((0, 1)) - p.min()",
    "r = np.mean(p, 0).sum() + np.linalg.norm(p - t, axis=1).mean() + np.var(p, 1, ddof=1).sum()",
    "a, b = p[:, 0], p[:, 1]\n    r = np.dot(a, b) + (p.T @ t).sum() + p[..., ::-1][0, 0]",
    "r = 0\n    for i, row in enumerate(p):\n        r += abs(row - t[i]).sum()\n    r /= len(p)",
    "rows = [np.square(row).sum() for row in p]\n    r = np.array(rows).mean() + max(rows)",
    "r = np.array([row.max() for row in p]).sum()",
    "if np.any(np.isnan(p)):\n        return None\n    r = np.nan_to_num(p).sum()",
    "out = np.zeros_like(p)\n    out[p > 0] = p[p > 0]\n    r = out.sum()",
    "eps = np.finfo(np.float32).eps\n    r = np.log(np.abs(p) + eps).mean()",
    "acc = (p.argmax(1) == t.argmax(1)).mean()\n    seen.append(acc)\n    r = p.sum()",
    "mask = p > 0\n    r = (p * mask).sum() + (1 - mask).sum() + mask.mean() + mask.sum()",
    "z = (p - p.mean()) / (p.std() + 1e-6)\n    r = np.percentile(z, 75) + np.median(z, axis=0)[1]",
    "s = 1 / (1 + np.exp(-p))\n    r = -np.mean(t * np.log(s) + (1 - t) * np.log(1 - s + 2.0))",
    "q = np.concatenate([p, t]) if p.ndim == 2 else p\n    r = np.stack([q, q * 2], axis=-1).sum()",
    "r = np.sum(p[np.newaxis, :] * np.arange(3)) + np.full((3,), 0.5).sum() + p.size",
    "w = np.linspace(0.0, 1.0, p.shape[0])\n    r = np.average(p[:, 0], weights=w)",
    "d = p.reshape(-1, 1) - t.flatten()[None, :]\n    r = np.minimum(d ** 2, 1.0).sum() + np.power(np.abs(d), 1.5).mean()",
    "k = 0\n    while k < 2:\n        p = p * 0.5\n        k += 1\n    r = float(p.sum()) + int(3.7)",
    "try:\n        r = np.prod(p[0])\n    except ValueError:\n        r = 0.0",
    "r = p.sum() if p.shape[0] else 0.0\n    n = p.copy()\n    n[0] = 0\n    n += 1\n    r = r + n.sum()",
    "order = np.argsort(p[:, 0])\n    r = (np.sort(p, axis=0) * np.arange(4)[:, None]).sum() + p[order][0, 1]",
    "idx = np.where(p > 0)\n    r = p[idx].sum() + np.clip(p, a_min=0, a_max=None).sum()",
    "r = np.matmul(p, t.T).trace() + np.outer(p[0], t[0]).sum() + np.einsum('ij,ij->', p, t)",
    "r = np.einsum('ij,ij->i', p, t).sum() + np.cumsum(p).mean() + np.diff(p, axis=1).sum()",
    "c = np.array([1.0, 2.0, 0.5])\n    r = (p * c).sum() + np.random.RandomState(0).rand() * 0",
]


@pytest.mark.parametrize("lines", SNIPPETS)
@pytest.mark.parametrize("ending", ["torch.tensor(r, requires_grad=True)", "torch.as_tensor(r)"])
def test_snippets_keep_their_value(lines: str, ending: str) -> None:
    text = (
        "import numpy as np\nimport torch\nseen = []\ndef f(pred, target):\n    p = pred.detach().cpu().numpy()\n"
        f"    t = target.cpu().numpy()\n    {lines}\n    return {ending}\n"
    )
    after = fix(tensors_for_numpy, text, "pred.detach()")
    torch.manual_seed(1)
    pred, target = torch.randn(4, 3, requires_grad=True), torch.rand(4, 3)
    wanted, given = run(text)["f"](pred, target), run(after)["f"](pred, target)
    assert torch.allclose(given.detach().double(), wanted.detach().double(), rtol=1e-5, atol=1e-5), after
    given.sum().backward()
    assert pred.grad is not None
    assert bool(pred.grad.abs().sum() > 0)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("r = scipy.ndimage.gaussian_filter(p, 1)", "scipy.ndimage.gaussian_filter"),
        ("r = helper(p).mean()", "helper"),
        ("r = np.interp(p, [0, 1], [0, 1])", "np.interp"),
        ("r = np.argmax(p)", "np.argmax"),
        ("r = np.round(p).mean()", "np.round"),
        ("r = (p // 2).mean()", "//"),
        ("r = np.random.normal(p)", "np.random.normal"),
        ("r = p.reshape((3, 4), order='F')", "order"),
        ("p[0] = 1\n    r = p.mean()", "in place"),
        ("p += 1\n    r = p.mean()", "in place"),
        ("def g():\n        return p\n    r = g()", "inner function"),
        ("r = p.astype(np.int64).sum()", "astype"),
        ("r = np.pad(p, 1).sum()", "dimensions"),
        ("r = p.tobytes()", "tobytes"),
        ("r = np.sum(p, dtype=np.float64)", "dtype"),
    ],
)
def test_what_has_no_equal_is_named(lines: str, reason: str) -> None:
    text = f"import numpy as np\nimport torch\ndef f(pred):\n    p = pred.detach().numpy()\n    {lines}\n    return torch.tensor(r)\n"
    assert reason in refusal(tensors_for_numpy, text, "pred.detach()")


KEPT = [
    # the array's other uses keep getting one
    (
        "plt.plot(p)\n    self.last = p\n    log['p'] = p.mean()\n    print(p.shape, '%.2f' % p.sum())",
        "plt.plot(p.detach().cpu().numpy())\n    self.last = p.detach().cpu().numpy()\n"
        "    log['p'] = p.mean().item()\n    print(p.shape, '%.2f' % p.sum().item())",
    ),
    ("cb(x=p[0], y=[1])", "cb(x=p[0].detach().cpu().numpy(), y=[1])"),
    ("print(f'{p.mean():.2f} {p}')", "print(f'{p.mean().item():.2f} {p.detach().cpu().numpy()}')"),
    ("print(p.mean().item(), float(p.sum()))", "print(p.mean().item(), float(p.sum()))"),
]


@pytest.mark.parametrize(("use", "after"), KEPT)
def test_other_uses_keep_an_array(use: str, after: str) -> None:
    head = "import torch\ndef f(self, pred, log):\n    p = {}\n    {}\n    return {}\n"
    text = head.format("pred.detach().numpy()", use, "torch.tensor(p.mean())")
    assert fix(tensors_for_numpy, text, "pred.detach()") == head.format("pred", after, "p.mean()")


def test_names_follow_the_imports() -> None:
    text = "import numpy\nimport torch as th\ndef f(x):\n    return th.from_numpy(numpy.exp(x.detach().numpy()))\n"
    assert (
        fix(tensors_for_numpy, text, "x.detach()") == "import torch as th\ndef f(x):\n    return th.exp(x)\n"
    )


def test_torch_is_imported_where_only_a_part_of_it_was() -> None:
    text = "import numpy as np\nfrom torch import nn, tensor\ndef f(x):\n    return tensor(np.exp(x.detach().numpy()))\n"
    after = "import torch\nfrom torch import nn, tensor\ndef f(x):\n    return torch.exp(x)\n"
    assert fix(tensors_for_numpy, text, "x.detach()") == after


def test_layout_is_kept() -> None:
    text = (
        "import numpy as np\r\nimport torch\r\ndef f(x):\r\n\tä = x.detach().numpy()  # ä\r\n"
        "\tr = np.sum(\r\n\t\tä ** 2,  # squares\r\n\t\taxis=1,\r\n\t)\r\n\treturn torch.tensor(r)\r\n"
    )
    after = (
        "import torch\r\ndef f(x):\r\n\tä = x  # ä\r\n"
        "\tr = torch.sum(\r\n\t\tä ** 2,  # squares\r\n\t\tdim=1,\r\n\t)\r\n\treturn r\r\n"
    )
    assert fix(tensors_for_numpy, text, "x.detach()") == after


def test_numpy_stays_while_it_is_used() -> None:
    text = (
        "import numpy as np\nimport torch\ndef f(x):\n    return torch.tensor(np.exp(x.detach().numpy()))\n"
        "def g():\n    return np.zeros(3)\n"
    )
    assert fix(tensors_for_numpy, text, "x.detach()").startswith("import numpy as np\n")


def test_the_module_level_is_a_function_too() -> None:
    text = (
        "import numpy as np\nimport torch\nw = torch.ones(3, requires_grad=True)\nfor step in range(2):\n"
        "    h = (w * 2).detach().numpy()\n    loss = torch.tensor(np.square(h).sum(), requires_grad=True)\n"
        "    loss.backward()\n"
    )
    space = run(fix(tensors_for_numpy, text, "(w * 2).detach()"))
    assert gradients(space, ["w"]) == [True]
    assert gradients(run(text), ["w"]) == [False]


def test_the_table_is_sorted_and_read() -> None:
    names = list(table())
    assert names == sorted(names)
    assert table()["std"].parameters[1] == ("axis", "dim")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_row_with_a_gradient_is_written_in_torch(dtype: type) -> None:
    torch.set_num_threads(1)
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    for row in _runnable():
        outcome = check_row(row["numpy"], row["torch"], dtype)
        if outcome.startswith("refused") and row["numpy"] in REFUSED:
            assert REFUSED[row["numpy"]] in outcome
            outcomes["refused"] += 1
            continue
        outcomes[outcome.split(":")[0].split("\n")[0].split(" ")[0]] += 1
        if outcome != "equal":
            wrong.append(f"{row['numpy']}: {outcome}")
    print(f"\nnumpy rows with a gradient, {dtype.__name__}: {dict(outcomes)}")
    assert not wrong, "\n".join(wrong)


# Rows whose value carries nothing of an array, so that nothing is converted for its sake; the mean of integers
# cannot be told from a mean.
NOTHING_TO_CONVERT = {"a.size", "a.ndim", "a.shape", "i.mean()"}


@pytest.mark.slow
def test_rows_without_a_gradient_keep_their_values_beside_one_that_has() -> None:
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    for row in ROWS:
        if (
            row["gradient"] == "nonzero"
            or row["numpy"].startswith("(lambda")
            or row["numpy"] in NOTHING_TO_CONVERT
        ):
            continue
        outcome = check_row(f"({row['numpy']}) + v.sum()", "", np.float64)
        outcomes[outcome.split(":")[0].split("\n")[0]] += 1
        if not outcome.startswith(("equal", "refused")):
            wrong.append(f"{row['numpy']}: {outcome}")
    print(f"\nnumpy rows without a gradient: {dict(outcomes)}")
    assert not wrong, "\n".join(wrong)
    assert outcomes["equal"] > 2 * outcomes["refused"]
