//  The program `sluice`: its commands are declared in Program.swift; what they do lies in the modules below.

internal import CommandLine
internal import Glibc

exit(program.run(Array(Swift.CommandLine.arguments.dropFirst())))
