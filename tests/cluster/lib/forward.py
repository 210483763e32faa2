"""forward PORT ADDRESS:PORT: from a port of this machine's loopback to an address inside the cluster, until it is ended."""

import asyncio
import sys


async def main(port, target):
    host, _, target_port = target.rpartition(":")

    async def serve(reader, writer):
        try:
            up_reader, up_writer = await asyncio.open_connection(host, int(target_port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(pipe(reader, up_writer), pipe(up_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", int(port))
    async with server:
        await server.serve_forever()


async def pipe(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


asyncio.run(main(sys.argv[1], sys.argv[2]))
