//  The program `sluice`: its commands, declared; what they do lies in the modules below.

internal import CommandLine
internal import Daemon
internal import Diagnostics
internal import Glibc

setvbuf(stdout, nil, Int32(_IOFBF), 1 << 16)
let status = program.run(Array(Swift.CommandLine.arguments.dropFirst()))
fflush(stdout)
exit(status)
