"""What the expressions and the parts of the head are called, in the order of the arrays. Imports nothing.

The expressions are the 52 blend shapes of Apple's ARKit in the published order of ``ARFaceAnchor.BlendShapeLocation``:
left eye, right eye, jaw and mouth, brows, cheeks, nose, tongue. "Left" is the subject's left, which is x > 0.
"""

EXPRESSIONS: tuple[str, ...] = (
    "eyeBlinkLeft",
    "eyeLookDownLeft",
    "eyeLookInLeft",
    "eyeLookOutLeft",
    "eyeLookUpLeft",
    "eyeSquintLeft",
    "eyeWideLeft",
    "eyeBlinkRight",
    "eyeLookDownRight",
    "eyeLookInRight",
    "eyeLookOutRight",
    "eyeLookUpRight",
    "eyeSquintRight",
    "eyeWideRight",
    "jawForward",
    "jawLeft",
    "jawRight",
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthLeft",
    "mouthRight",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "noseSneerLeft",
    "noseSneerRight",
    "tongueOut",
)

# The number of a part is its place here. The head is the outer skin with hair; mouth and eye bags line the openings.
PARTS: tuple[str, ...] = ("head", "mouth", "eye_bag", "eyeball", "teeth", "tongue", "ear", "torso")
HEAD, MOUTH, EYE_BAG, EYEBALL, TEETH, TONGUE, EAR, TORSO = range(len(PARTS))
TWO_SIDED: tuple[int, ...] = (MOUTH, EYE_BAG, TEETH)  # open sheets, seen from both sides; all other parts are closed
