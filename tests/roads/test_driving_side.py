"""Cities whose side of the road everybody knows, and borders where boxes can't tell."""

import pytest

from pipeline.roads.driving_side import driving_side

LEFT = {
    "London": (-0.13, 51.51),
    "Southampton": (-1.40, 50.91),
    "Penzance": (-5.53, 50.12),
    "Dublin": (-6.26, 53.35),
    "Belfast": (-5.93, 54.60),
    "Edinburgh": (-3.19, 55.95),
    "Valletta": (14.51, 35.90),
    "Nicosia": (33.38, 35.17),
    "Delhi": (77.21, 28.61),
    "Chennai": (80.27, 13.08),
    "Janakpur, Nepal": (85.92, 26.73),
    "Dhaka": (90.41, 23.81),
    "Karachi": (67.01, 24.86),
    "Lahore": (74.34, 31.55),
    "Islamabad": (73.06, 33.68),
    "Colombo": (79.86, 6.93),
    "Bangkok": (100.50, 13.76),
    "Chiang Mai": (98.98, 18.79),
    "Kuala Lumpur": (101.69, 3.14),
    "Singapore": (103.82, 1.35),
    "Jakarta": (106.85, -6.21),
    "Sydney": (151.21, -33.87),
    "Perth": (115.86, -31.95),
    "Auckland": (174.76, -36.85),
    "Tokyo": (139.69, 35.69),
    "Fukuoka": (130.40, 33.59),
    "Sapporo": (141.35, 43.06),
    "Hong Kong": (114.17, 22.32),
    "Nairobi": (36.82, -1.29),
    "Kampala": (32.58, 0.35),
    "Dar es Salaam": (39.28, -6.79),
    "Lusaka": (28.28, -15.41),
    "Harare": (31.05, -17.83),
    "Maputo": (32.57, -25.97),
    "Windhoek": (17.08, -22.56),
    "Johannesburg": (28.05, -26.20),
    "Cape Town": (18.42, -33.92),
    "Georgetown": (-58.16, 6.80),
    "Kingston": (-76.79, 17.97),
}
RIGHT = {
    "Braunschweig": (10.52, 52.27),
    "Calais": (1.86, 50.95),
    "Cherbourg": (-1.62, 49.64),
    "Rotterdam": (4.48, 51.92),
    "Palermo": (13.36, 38.12),
    "Tehran": (51.39, 35.69),
    "Kabul": (69.17, 34.53),
    "Beijing": (116.41, 39.90),
    "Guangzhou": (113.26, 23.13),
    "Seoul": (126.98, 37.57),
    "Vladivostok": (131.89, 43.12),
    "Hanoi": (105.83, 21.03),
    "Manila": (120.98, 14.60),
    "Luanda": (13.23, -8.84),
    "Kinshasa": (15.27, -4.44),
    "Addis Ababa": (38.75, 9.03),
    "Mogadishu": (45.32, 2.05),
    "Antananarivo": (47.51, -18.88),
    "Lagos": (3.38, 6.52),
    "Cairo": (31.24, 30.04),
    "Norfolk, Virginia": (-76.29, 36.85),
    "Miami": (-80.19, 25.76),
    "Caracas": (-66.90, 10.48),
    "Manaus": (-60.02, -3.12),
    "Fort-de-France": (-61.06, 14.61),
}


@pytest.mark.parametrize("city", LEFT)
def test_left(city):
    assert driving_side(*LEFT[city]) == "left"


@pytest.mark.parametrize("city", RIGHT)
def test_right_or_undecided(city):
    """Where a city is near a border it may be open, but never told wrong."""
    assert driving_side(*RIGHT[city]) in ("right", None)


@pytest.mark.parametrize(
    "city", ["Braunschweig", "Beijing", "Cairo", "Norfolk, Virginia", "Miami", "Rotterdam"]
)
def test_far_from_borders_right_is_told(city):
    assert driving_side(*RIGHT[city]) == "right"


@pytest.mark.parametrize(
    "place",
    [(1.31, 51.13), (71.10, 34.10), (102.60, 17.95), (28.21, -12.80), (99.88, 20.43)],
    ids=["Dover", "Khyber", "Vientiane", "Kitwe", "Mae Sai"],
)
def test_at_a_border_it_is_open(place):
    assert driving_side(*place) is None
