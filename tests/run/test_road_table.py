"""The oracle is the table of the finished run, read from its files."""

from pipeline.traffic.table import traffic_of


def test_the_report_has_the_table_of_the_finished_run(result):
    expected = traffic_of([result.folder]).table
    page = (result.folder / "report.html").read_text(encoding="utf-8")
    section = page.partition('<section id="roads"')[2].partition("</section>")[0]
    assert len(expected) > 0
    assert section.count('<th scope="row">') == min(len(expected), 300)
    busiest = expected.sort_values("expected", ascending=False, kind="stable").iloc[0]
    assert f"<td>{busiest.direction}</td>" in section
    assert f'<td class="number">{busiest.expected:,.1f}</td>' in section
    assert f'<td class="number">{busiest.flow_per_hour:,.0f}</td>' in section
