"""Names what pictures show:

    FRESNEL_LIBRARY=target/device/libfresnel_runtime.so python3 examples/python/classify.py model.fresnel picture...
"""

import sys

import fresnel


def main(path, *pictures):
    model = fresnel.Model(path)
    session = fresnel.Session(model, threads=1)
    print(f"{model.architecture}: input {model.input_shape}, {model.classes} classes")
    for picture in pictures:
        print(picture)
        for best in session.classify(picture, top=3):
            print(f"  {100 * best.probability:6.2f} %  {best.name}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (fresnel.FresnelError, OSError) as error:
        sys.exit(f"error: {error}")
