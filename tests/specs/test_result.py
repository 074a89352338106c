"""What a measurement shows of itself."""

from __future__ import annotations

from made_up import result


def test_a_measurement_shows_itself_in_one_line() -> None:
    shown = repr(result(median_ms=4.0))
    assert shown.startswith("<Result resnet20 fp32 for host-openvino; scenario SingleStream, queries 1500, p50 ms ")
    assert "engine openvino 1.2.3, measured on Made-up(R) CPU" in shown
    assert len(shown) < 300
    assert "\n" not in shown
    assert "invalid" not in shown


def test_what_voids_it_is_shown() -> None:
    assert repr(result(valid=False, invalid_reasons=("it was hot", "it throttled"))).endswith(
        "invalid it was hot; it throttled>"
    )


def test_a_table_for_notebooks_holds_names_of_strangers_as_text() -> None:
    page = result(bundle_name="<script>")._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt; fp32 for host-openvino" in page
    assert page.count("<tr>") == page.count("</tr>") == len(result().cells())
