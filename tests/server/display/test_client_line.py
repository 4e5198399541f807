"""One line says where the clients of a round are, however many they are."""

from __future__ import annotations

from heron_server.display.client_line import ClientLine


def at_work(count: int, width: int = 80) -> ClientLine:
    line = ClientLine()
    line.round_began([f"client-{i:02d}" for i in range(count)])
    for i in range(count):
        line.progress(f"client-{i:02d}", i + 1, 50)
    return line


def test_each_client_with_its_local_steps_while_they_fit() -> None:
    assert at_work(3).text(80) == "client-00 1/50  client-01 2/50  client-02 3/50"


def test_more_clients_than_fit_are_told_together() -> None:
    line = at_work(24)
    assert line.text(80) == "24 clients  local steps 1 to 24 of 50, median 12"
    line.lost("client-07")
    assert line.text(80) == "24 clients  local steps 1 to 24 of 50, median 12  1 away"
    assert len(line.text(400)) > 300


def test_who_is_away_is_said_until_it_is_back() -> None:
    line = at_work(2)
    line.lost("client-01")
    assert line.text(80) == "client-00 1/50  client-01 away"
    line.present("client-01")
    assert line.text(80) == "client-00 1/50  client-01 2/50"


def test_nothing_is_shown_before_anybody_said_where_it_is_nor_between_rounds() -> None:
    line = ClientLine()
    line.round_began(["a", "b"])
    assert line.text(80) == ""
    line.progress("b", 1, 4)
    line.progress("not drawn", 3, 4)
    assert line.text(80) == "a 0/4  b 1/4"
    line.round_done()
    assert line.text(80) == ""


def test_a_client_s_name_cannot_steer_the_terminal() -> None:
    line = ClientLine()
    line.round_began(["\x1b[2Ja"])
    line.progress("\x1b[2Ja", 1, 2)
    assert line.text(80) == "?[2Ja 1/2"
