"""Hand labels of the Olivetti faces: which faces clearly smile, and which clearly do not.

One labeller looked at all 400 faces on numbered sheets, and at enlarged mouths of the doubtful ones, before any model
was fitted; nobody has checked the labels. Doubtful faces have none: half smiles, faces that speak, covered mouths.
"""

from __future__ import annotations

SMILING = (
    20, 21, 26, 27, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 51, 61, 62, 69, 72, 74, 75, 90, 91, 92, 93, 111, 114, 116,
    119, 123, 128, 129, 160, 161, 162, 163, 164, 186, 187, 188, 190, 191, 195, 200, 201, 202, 214, 216, 234, 260, 261,
    263, 264, 267, 268, 300, 305, 306, 307, 308, 311, 312, 319, 323, 324, 325, 326, 327, 328, 340, 341, 342, 343, 348,
    349, 361, 367, 380, 381, 382, 383, 384, 385, 386, 387, 388, 389, 393, 395, 397,
)  # fmt: skip
"""Numbers of the faces that clearly smile, in the order of the source `olivetti`."""

NOT_SMILING = (
    0, 1, 2, 4, 5, 6, 7, 8, 11, 12, 15, 18, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 53, 54, 55, 56, 57, 58, 64, 66, 67,
    68, 71, 78, 99, 105, 106, 107, 110, 115, 118, 122, 125, 126, 130, 131, 132, 133, 134, 135, 136, 139, 140, 141, 142,
    143, 145, 147, 151, 152, 155, 156, 157, 158, 159, 170, 171, 172, 175, 176, 177, 180, 182, 184, 189, 192, 196, 198,
    199, 205, 208, 211, 222, 225, 226, 230, 231, 232, 233, 235, 236, 238, 239, 252, 256, 270, 272, 277, 280, 281, 282,
    283, 284, 285, 286, 287, 289, 290, 296, 298, 301, 302, 309, 317, 318, 320, 321, 330, 331, 332, 333, 334, 335, 336,
    337, 338, 339, 351, 355, 356, 358, 359, 360, 362, 366, 370, 373, 375, 377, 378, 379,
)  # fmt: skip
"""Numbers of the faces that clearly do not smile."""
