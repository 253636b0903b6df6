"""The basis set IGLO-III of C, N, O and F: (11s7p2d) contracted to [7s6p2d].

W. Kutzelnigg, U. Fleischer, M. Schindler, in NMR Basic Principles and Progress 23, 165 (Springer, 1991); exponents and
coefficients as listed by the Basis Set Exchange. The program's own table of this name has no contractions and lacks N
and O.
"""

from typing import Any

# by atomic number: the innermost Gaussians of s and of p, contracted (exponent, coefficient), and the free exponents
_S = {
    6: (
        (
            (16371.074, 2.2641833e-4),
            (2426.9925, 1.7844680e-3),
            (544.54418, 9.4901567e-3),
            (150.80487, 3.9660515e-2),
            (47.708143, 0.13134026),
        ),
        (16.457241, 6.0845578, 2.3824631, 0.6619866, 0.24698997, 0.0949873),
    ),
    7: (
        (
            (23274.857, 2.1521253e-4),
            (3468.1830, 1.6921400e-3),
            (777.98843, 8.9940700e-3),
            (215.71976, 3.7730390e-2),
            (68.078031, 0.12667110),
        ),
        (23.424397, 8.6693766, 3.4217533, 0.93125652, 0.34656886, 0.13311530),
    ),
    8: (
        (
            (30664.503, 2.1413900e-4),
            (4573.2014, 1.6779800e-3),
            (1029.5524, 8.8814700e-3),
            (285.90474, 3.7281340e-2),
            (90.369653, 0.12518867),
        ),
        (31.219578, 11.607766, 4.5927595, 1.2711716, 0.47214017, 0.17896534),
    ),
    9: (
        (
            (37736.000, 2.1824900e-4),
            (5867.0791, 1.6332200e-3),
            (1332.4679, 8.6817800e-3),
            (369.44060, 3.6543390e-2),
            (116.84300, 0.12310963),
        ),
        (40.348770, 14.966270, 5.8759295, 1.6533352, 0.61083583, 0.23328922),
    ),
}
_P = {
    6: (
        ((40.790423, 4.0969752e-3), (9.5034633, 2.7584766e-2)),
        (2.9408357, 1.0751115, 0.4267024, 0.17481926, 0.07113054),
    ),
    7: (
        ((60.317240, 3.9765800e-3), (14.100811, 2.7641970e-2)),
        (4.3877179, 1.6082717, 0.63885442, 0.26035829, 0.10396545),
    ),
    8: (
        ((78.702943, 4.2416000e-3), (18.409261, 2.9868460e-2)),
        (5.7530835, 2.1107114, 0.83712087, 0.33907630, 0.13226310),
    ),
    9: (
        ((102.26192, 4.2732300e-3), (23.938381, 3.0534308e-2)),
        (7.5205914, 2.7724566, 1.1000514, 0.44677512, 0.17187009),
    ),
}
_D = (1.40, 0.35)  # of all four


def iglo3(z: int) -> list[list[Any]]:
    """IGLO-III of an element as PySCF takes basis sets: [angular momentum, [exponent, coefficient], ...] per shell."""
    shells: list[list[Any]] = []
    for momentum, (contracted, free) in enumerate((_S[z], _P[z])):
        shells.append([momentum, *(list(pair) for pair in contracted)])
        shells += [[momentum, [exponent, 1.0]] for exponent in free]
    return shells + [[2, [exponent, 1.0]] for exponent in _D]
