"""Live streams over WebSocket: many at once, paused, resumed, heard by rooms, and not lost with a connection.

endpoint       the handshake, and what may not come in
conversation   what a client's messages do
session        what outlives a connection: numbered messages, streams, rooms
sessions       all of them: found again, let go of, closed at the end
stream         a call whose answer is told as it comes
rooms          who hears which streams
socket         the way out: one write for all that is told in a turn of the loop; a client that does not read
"""
