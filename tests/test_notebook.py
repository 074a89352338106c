"""The result of a build in a notebook, run by a real Jupyter kernel: ``make test-notebook``."""

from __future__ import annotations

import pytest
from small_bundles import small_onnx

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: make test-notebook")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: make test-notebook")
pytest.importorskip("ipykernel", reason="ipykernel is not installed: make test-notebook")

pytestmark = [pytest.mark.long, pytest.mark.own]

BUILD = """import edgepack
built = edgepack.build("model.onnx", shapes={"image": "1x3x8x8"}, benchmark=False, out="out")
built"""
LOAD = """with edgepack.load(built.rows[0].bundle) as model:
    print(sorted(model.infer({"image": __import__("numpy").zeros((1, 3, 8, 8), "float32")})))"""
WRONG = """edgepack.build("no.onnx")"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list:
    """What each cell showed: a build, one answer of its bundle, and a mistake."""
    folder = tmp_path_factory.mktemp("notebook")
    small_onnx(folder / "model.onnx")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in (BUILD, LOAD, WRONG)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEPACK_STORE", str(folder / "store"))
        client = nbclient.NotebookClient(
            book, timeout=300, allow_errors=True, resources={"metadata": {"path": str(folder)}}
        )
        client.execute()
    return [cell.outputs for cell in book.cells]


def test_the_result_is_a_table_and_the_report(outputs: list) -> None:
    (shown,) = [output for output in outputs[0] if output.output_type == "execute_result"]
    assert "<td>host-onnxruntime</td><td>fp32</td><td>ok</td>" in shown.data["text/html"]
    assert "<iframe" in shown.data["text/html"]
    assert shown.data["text/plain"].startswith("<BuildResult model: 1 rows")


def test_the_bundle_answers_in_the_kernel(outputs: list) -> None:
    assert [output.output_type for output in outputs[1]] == ["stream"]
    assert outputs[1][0].text.startswith("[")


def test_a_mistake_names_its_remedy(outputs: list) -> None:
    (error,) = [output for output in outputs[2] if output.output_type == "error"]
    assert error.ename == "ModelError"
    assert "no.onnx" in error.evalue
