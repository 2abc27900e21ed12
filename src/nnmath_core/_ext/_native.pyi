class Code:
    size: int
    address: int
    def __init__(self, code: bytes) -> None: ...
