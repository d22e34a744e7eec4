"""A gRPC server or client, of grpcio. `peer.py server` says its port, and ends with its standard input.
`peer.py client ADDRESS CALL` makes one call and says in a line what came of it."""

import sys
import threading
from concurrent import futures

import grpc

SERVICE = "suite.Echo"
LARGEST = 16 << 20
OPTIONS = [("grpc.max_receive_message_length", LARGEST), ("grpc.max_send_message_length", LARGEST)]


def unary(request, context):
    context.set_trailing_metadata((("x-trailer", "t"),))
    if request == b"fail":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no: ä")
    if request == b"wait":
        threading.Event().wait(30)
    return dict(context.invocation_metadata()).get("x-say", "").encode() + request


def collect(requests, context):
    return b"+".join(requests)


def count(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def echo(requests, context):
    for request in requests:
        yield request.upper()


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=128), options=OPTIONS)
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Collect": grpc.stream_unary_rpc_method_handler(collect),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Echo": grpc.stream_stream_rpc_method_handler(echo),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0)


def call_unary(channel):
    method = channel.unary_unary(f"/{SERVICE}/Unary")
    response, call = method.with_call(b"hello", metadata=(("x-say", "you-said-"),), timeout=20)
    return f"{response.decode()}, {call.code().name}, {dict(call.trailing_metadata()).get('x-trailer')}"


def call_failing(channel):
    try:
        channel.unary_unary(f"/{SERVICE}/Unary")(b"fail", timeout=20)
        return "no failure"
    except grpc.RpcError as error:
        return f"{error.code().name}, {error.details()}, {dict(error.trailing_metadata()).get('x-trailer')}"


def call_unknown(channel):
    try:
        channel.unary_unary(f"/{SERVICE}/Nothing")(b"", timeout=20)
        return "no failure"
    except grpc.RpcError as error:
        return error.code().name


def call_plain(channel):
    try:
        return channel.unary_unary(f"/{SERVICE}/Unary")(b"hello", timeout=20).decode()
    except grpc.RpcError as error:
        return f"{error.code().name}, {error.details().split('.')[0]}"


def call_deadline(channel):
    try:
        channel.unary_unary(f"/{SERVICE}/Unary")(b"wait", timeout=0.5)
        return "no failure"
    except grpc.RpcError as error:
        return error.code().name


def call_collect(channel):
    requests = (str(number).encode() for number in range(5))
    return channel.stream_unary(f"/{SERVICE}/Collect")(requests, timeout=20).decode()


def call_count(channel):
    responses = channel.unary_stream(f"/{SERVICE}/Count")(b"5", timeout=20)
    return "+".join(response.decode() for response in responses)


def call_echo(channel):
    """Each request waits for the response to the one before."""
    turn = threading.Semaphore(1)

    def requests():
        for word in (b"one", b"two", b"three"):
            turn.acquire()
            yield word

    said = []
    for response in channel.stream_stream(f"/{SERVICE}/Echo")(requests(), timeout=20):
        said.append(response.decode())
        turn.release()
    return "+".join(said)


def call_cancel(channel):
    hold = threading.Event()

    def requests():
        yield b"one"
        hold.wait(20)

    call = channel.stream_stream(f"/{SERVICE}/Echo")(requests(), timeout=20)
    first = next(call).decode()
    call.cancel()
    hold.set()
    try:
        next(call)
        return "no end"
    except grpc.RpcError as error:
        return f"{first}, {error.code().name}"


def call_large(channel):
    body = bytes(range(256)) * (8 << 12)
    response = channel.unary_unary(f"/{SERVICE}/Unary")(body, timeout=60)
    return f"{len(response) >> 20} MiB, {'the same' if response == body else 'changed'}"


def call_many(channel):
    method = channel.unary_unary(f"/{SERVICE}/Unary")
    calls = [method.future(str(number).encode(), timeout=60) for number in range(200)]
    good = sum(call.result() == str(number).encode() for number, call in enumerate(calls))
    return f"{good} answered"


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve()
    else:
        with grpc.insecure_channel(sys.argv[2], options=OPTIONS) as opened:
            print(globals()[f"call_{sys.argv[3]}"](opened), flush=True)
