"""On which side of the road traffic keeps, as far as boxes around countries can tell."""

from __future__ import annotations

from typing import Literal

_Box = tuple[float, float, float, float]

_LEFT: tuple[_Box, ...] = (
    (-10.56, 51.39, -5.93, 55.43),  # Ireland
    (-8.69, 49.95, 1.91, 60.93),  # Great Britain
    (-2.73, 49.11, -1.99, 49.77),  # Channel Islands
    (14.18, 35.74, 14.63, 36.10),  # Malta
    (32.20, 34.55, 34.65, 35.74),  # Cyprus
    (68.13, 6.70, 97.42, 35.51),  # India, Nepal, Bhutan, Bangladesh
    (60.86, 23.64, 77.83, 37.07),  # Pakistan
    (79.64, 5.86, 81.95, 9.88),  # Sri Lanka
    (72.60, -0.75, 73.80, 7.20),  # Maldives
    (97.34, 5.63, 105.64, 20.46),  # Thailand
    (99.60, 1.13, 104.60, 6.75),  # West Malaysia, Singapore
    (109.54, 0.85, 119.33, 7.41),  # East Malaysia, Brunei
    (95.16, -10.98, 141.01, 5.97),  # Indonesia, Timor-Leste
    (140.85, -11.70, 156.02, -1.30),  # Papua New Guinea
    (155.62, -12.40, 168.00, -6.50),  # Solomon Islands
    (112.85, -43.70, 153.69, -9.86),  # Australia
    (166.37, -47.33, 178.63, -34.10),  # New Zealand
    (176.81, -20.81, 180.00, -12.42),  # Fiji
    (129.30, 30.20, 145.87, 45.54),  # Japan
    (122.83, 23.98, 131.38, 30.20),  # Okinawa
    (113.52, 22.10, 113.60, 22.22),  # Macao
    (113.82, 22.15, 114.45, 22.56),  # Hong Kong
    (33.90, -4.72, 41.91, 4.63),  # Kenya
    (29.57, -1.48, 35.01, 4.23),  # Uganda
    (29.34, -11.75, 40.48, -0.99),  # Tanzania
    (21.99, -18.08, 33.71, -8.19),  # Zambia
    (32.68, -17.14, 35.93, -9.37),  # Malawi
    (30.21, -26.87, 40.90, -10.42),  # Mozambique
    (25.23, -22.42, 33.08, -15.61),  # Zimbabwe
    (19.99, -26.88, 29.38, -17.78),  # Botswana
    (11.66, -28.97, 25.27, -16.95),  # Namibia
    (16.45, -34.88, 32.95, -22.13),  # South Africa, Lesotho, Eswatini
    (57.25, -20.57, 57.85, -19.94),  # Mauritius
    (55.15, -4.86, 56.01, -3.66),  # Seychelles
    (-61.39, 1.18, -56.47, 8.58),  # Guyana
    (-58.08, 1.83, -53.95, 6.06),  # Suriname
    (-78.43, 17.64, -76.17, 18.58),  # Jamaica
    (-81.45, 19.20, -79.70, 19.80),  # Cayman Islands
    (-79.04, 20.86, -72.68, 27.29),  # Bahamas
    (-59.71, 13.00, -59.37, 13.39),  # Barbados
    (-62.00, 10.00, -60.40, 11.41),  # Trinidad and Tobago
    (-61.90, 11.90, -60.80, 14.15),  # Grenada, Saint Vincent, Saint Lucia
    (-61.50, 15.20, -61.20, 15.65),  # Dominica
    (-62.90, 16.60, -61.60, 17.75),  # Antigua, Montserrat, Saint Kitts
    (-65.10, 17.60, -64.20, 18.80),  # Virgin Islands
)
"""Countries that drive on the left: west, south, east and north in degrees."""

_RIGHT: tuple[_Box, ...] = (
    (-4.87, 42.33, 1.00, 49.93),  # France
    (1.00, 42.33, 8.23, 51.14),
    (60.50, 29.40, 66.50, 38.48),  # Afghanistan
    (66.50, 31.30, 70.50, 38.48),
    (70.50, 33.00, 71.50, 38.48),
    (71.50, 34.90, 74.92, 38.48),
    (44.03, 25.02, 63.34, 39.78),  # Iran
    (67.36, 36.67, 75.19, 41.05),  # Tajikistan
    (73.62, 35.42, 78.01, 41.07),  # China
    (77.98, 29.16, 84.00, 47.23),
    (84.00, 27.32, 90.00, 49.18),
    (90.00, 27.71, 96.01, 47.90),
    (96.00, 21.13, 102.01, 43.18),
    (113.50, 22.10, 113.62, 22.25),  # Zhuhai
    (113.80, 22.49, 114.45, 22.60),  # Shenzhen
    (92.20, 15.66, 98.60, 28.55),  # Myanmar
    (97.74, 9.78, 99.66, 15.66),
    (98.60, 19.70, 101.17, 28.55),
    (100.09, 17.50, 105.30, 22.50),  # Laos
    (104.70, 13.92, 107.64, 17.50),
    (102.34, 10.39, 107.64, 14.73),  # Cambodia
    (104.80, 8.33, 109.53, 23.40),  # Vietnam
    (116.89, 4.99, 126.65, 19.45),  # Philippines
    (124.53, 33.14, 129.65, 38.64),  # Korea
    (124.00, 37.10, 130.70, 43.01),
    (130.40, 42.20, 139.30, 48.50),  # Russia: Primorye, Sakhalin, Kuril Islands
    (141.60, 45.55, 144.80, 54.50),
    (145.40, 43.30, 156.50, 51.00),
    (11.67, -18.02, 24.09, -4.38),  # Angola
    (21.74, -13.46, 30.78, -4.99),  # Congo
    (12.17, -5.00, 29.90, 5.39),
    (28.85, -2.83, 30.90, -1.05),  # Rwanda
    (28.98, -4.45, 30.86, -2.30),  # Burundi
    (24.14, 3.49, 35.94, 12.22),  # South Sudan
    (32.99, 3.40, 47.99, 14.89),  # Ethiopia
    (40.98, -1.71, 51.47, 12.03),  # Somalia
    (-73.38, 0.64, -61.85, 12.25),  # Venezuela
    (-61.85, 0.64, -59.80, 9.80),
    (-64.00, -5.00, -59.80, 5.28),  # Brazil
    (-59.80, -5.00, -53.90, 2.60),
    (-54.61, 2.11, -51.61, 5.81),  # French Guiana
    (-85.01, 21.38, -76.91, 23.25),  # Cuba
    (-78.69, 19.77, -74.07, 21.50),
)
"""Their neighbours that drive on the right."""


def driving_side(longitude: float, latitude: float) -> Literal["right", "left"] | None:
    """The side of the road at a place in degrees; None near borders where it changes.

    The boxes are the areas of use of the EPSG dataset (11.022, onshore), cut and joined by hand along such
    borders. A box tells of more than its country: a place in boxes of both kinds is near a border, and
    undecided. Everywhere else the world drives on the right, but for some small islands that are not here.
    """

    def inside(boxes: tuple[_Box, ...]) -> bool:
        return any(w <= longitude <= e and s <= latitude <= n for w, s, e, n in boxes)

    if not inside(_LEFT):
        return "right"
    return None if inside(_RIGHT) else "left"
