"""Lengths: what is read, what is refused, and the way to pixels."""

import pickle

import pytest

from upicker.errors import ConfigError
from upicker.units import CS_MM, DEFOCUS_A, DOSE_E_A2, PHASE_DEG, THICKNESS_A, VOLTAGE_KV, Length, parse_length


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


@pytest.mark.parametrize(
    ("quantity", "text", "value"),
    [
        (DOSE_E_A2, "40", 40.0),
        (DOSE_E_A2, "40e/A2", 40.0),
        (DOSE_E_A2, "13.3 e/A^2", 13.3),
        (DOSE_E_A2, "4e1 e/Å2", 40.0),
        (DOSE_E_A2, "4000e/nm2", 40.0),
        (DEFOCUS_A, "1.5um", 15000.0),
        (DEFOCUS_A, "1.5 μm", 15000.0),
        (DEFOCUS_A, "900nm", 9000.0),
        (DEFOCUS_A, "12000A", 12000.0),
        (THICKNESS_A, "45nm", 450.0),
        (THICKNESS_A, "450", 450.0),
        (VOLTAGE_KV, "300kV", 300.0),
        (VOLTAGE_KV, "200", 200.0),
        (CS_MM, "2.7mm", 2.7),
        (PHASE_DEG, "90°", 90.0),
        (PHASE_DEG, "1.5707963267948966rad", 90.0),
    ],
)
def test_quantities_are_read_in_the_unit_of_their_name(quantity, text, value):
    assert quantity.read(text, "--option") == pytest.approx(value)


@pytest.mark.parametrize(
    ("quantity", "text", "says"),
    [
        (DOSE_E_A2, "-40", "out of range"),
        (DOSE_E_A2, "0", "out of range"),
        (DOSE_E_A2, "40mm", "unit 'mm'"),
        (DOSE_E_A2, "much", "not a number"),
        (DOSE_E_A2, "nan", "not a number"),
        (DOSE_E_A2, "1e999", "out of range"),
        (DEFOCUS_A, "1.5", "no unit"),
        (DEFOCUS_A, "-1um", "out of range"),
        (DEFOCUS_A, "8000um", "out of range"),
        (VOLTAGE_KV, "300mm", "unit 'mm'"),
        (PHASE_DEG, "270deg", "out of range"),
    ],
)
def test_refused_quantities_name_their_option(quantity, text, says):
    with pytest.raises(ConfigError, match=says) as error:
        quantity.read(text, "--option")
    assert error.value.where == "--option"
    assert quantity.example in str(error.value) or "Known units" in str(error.value)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("0.8-2.5um", 8000.0, 25000.0),
        ("8000-25000A", 8000.0, 25000.0),
        ("800nm-2.5um", 8000.0, 25000.0),
        ("0.8um - 2.5 um", 8000.0, 25000.0),
        ("0.8..2.5um", 8000.0, 25000.0),
        ("1.5um", 15000.0, 15000.0),
        ("0-0.5µm", 0.0, 5000.0),
    ],
)
def test_a_range_may_name_its_unit_once(text, low, high):
    assert DEFOCUS_A.read_range(text, "--defocus") == pytest.approx((low, high))


@pytest.mark.parametrize("text", ["2.5-0.8um", "0.8-2.5", "0.8-", "-0.8-2.5um", "1-2-3um", "0.8-2.5kV", ""])
def test_refused_ranges_name_their_option(text):
    with pytest.raises(ConfigError, match="--defocus"):
        DEFOCUS_A.read_range(text, "--defocus")
