"""Lengths: what is read, what is refused, and the way to pixels."""

import pickle

import pytest

from upicker.errors import ConfigError
from upicker.units import Length, parse_length


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("190A", 190.0, "A"),
        ("190a", 190.0, "A"),
        (" 190 Å ", 190.0, "A"),
        ("190\u212b", 190.0, "A"),  # the sign "Angstrom" looks like the letter and is another character
        ("190ang", 190.0, "A"),
        ("190 angstrom", 190.0, "A"),
        ("19nm", 190.0, "A"),
        ("1.9e1 nm", 190.0, "A"),
        ("108px", 108.0, "px"),
        ("108 PX", 108.0, "px"),
        ("1pixel", 1.0, "px"),
        ("108.5pixels", 108.5, "px"),
        ("108pix", 108.0, "px"),
        ("190", 190.0, "A"),
        (190, 190.0, "A"),
        (1.77, 1.77, "A"),
        (".5px", 0.5, "px"),
    ],
)
def test_lengths_are_read_with_their_unit_and_bare_numbers_are_angstrom(text, value, unit):
    length = parse_length(text)
    assert length.unit == unit
    assert length.value == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "px",
        "0px",
        "0",
        "-5A",
        "-5",
        "nan",
        "inf",
        "1e999px",
        "1e-999px",
        "12 mm",
        "12kg",
        "1,5A",
        "1 2px",
        "12%",
    ],
)
def test_what_is_no_positive_length_is_refused_and_repeated(text):
    with pytest.raises(ConfigError) as caught:
        parse_length(text)
    assert caught.value.where == text
    assert "190A" in caught.value.remedy


@pytest.mark.parametrize("length", [Length(190.0, "A"), Length(108.5, "px"), Length(0.25, "px")])
def test_a_length_written_and_read_is_itself(length):
    assert parse_length(str(length)) == length


def test_pixels_stay_and_angstrom_need_the_pixel_size():
    assert Length(108, "px").to_px(None) == 108
    assert Length(108, "px").to_px(1.77) == 108
    assert Length(177, "A").to_px(1.77) == pytest.approx(100)
    for unknown in (None, 0.0):
        with pytest.raises(ConfigError, match=r"mic7\.mrc: .*--pixel-size"):
            Length(177, "A").to_px(unknown, "mic7.mrc")


def test_errors_travel_between_processes_whole():
    with pytest.raises(ConfigError) as caught:
        parse_length("12kg")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.remedy) == (str(caught.value), caught.value.remedy)
