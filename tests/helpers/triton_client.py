"""Asks a server as Triton's own clients do; run by the Python of ``.venv-serving``, which has these and numpy alone.

Prints JSON: what was asked, and what came back.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tritonclient.grpc as rpc
import tritonclient.http as web
from tritonclient.utils import InferenceServerException


def tensor(kind, array, **how):
    found = kind.InferInput("image", list(array.shape), "FP32")
    found.set_data_from_numpy(array, **how)
    return [found]


def refusal(call) -> str:
    try:
        call()
    except InferenceServerException as error:
        return f"{error.status()}: {error.message()}"
    return "no error"


def main(http: str, grpc: str, feeds: str) -> None:
    image = np.load(feeds)
    one, two = web.InferenceServerClient(http, concurrency=4), rpc.InferenceServerClient(grpc)
    answers = []
    for sent in (True, False):
        for asked in (True, False):
            for packed in (None, "gzip", "deflate"):
                outputs = [web.InferRequestedOutput("scores", binary_data=asked)]
                inputs = tensor(web, image, binary_data=sent)
                answers.append(one.infer("small", inputs, outputs=outputs, request_compression_algorithm=packed))
    answers += [one.infer("small", tensor(web, image)), two.infer("small", tensor(rpc, image), request_id="7")]
    answers.append(two.infer("small", tensor(rpc, image), outputs=[rpc.InferRequestedOutput("scores")],
                             compression_algorithm="gzip"))  # fmt: skip
    waiting = [one.async_infer("small", tensor(web, image)) for _ in range(20)]
    answers += [each.get_result() for each in waiting]
    other = image[..., :4].copy()
    print(json.dumps({
        "http": [one.is_server_live(), one.is_server_ready(), one.is_model_ready("small", "1.0")],
        "grpc": [two.is_server_live(), two.is_server_ready(), two.is_model_ready("small", "1.0")],
        "metadata": [one.get_model_metadata("small"), two.get_model_metadata("small", as_json=True)],
        "index": [one.get_model_repository_index(), two.get_model_repository_index(as_json=True)],
        "server": [one.get_server_metadata(), two.get_server_metadata(as_json=True)],
        "answers": [each.as_numpy("scores").tolist() for each in answers],
        "refused": [
            refusal(lambda: one.infer("none", tensor(web, image))),
            refusal(lambda: two.infer("none", tensor(rpc, image))),
            refusal(lambda: one.infer("small", tensor(web, other))),
            refusal(lambda: two.infer("small", tensor(rpc, other))),
        ],
    }))  # fmt: skip


main(*sys.argv[1:])
