// Signals of the daemon wait from the program's first instruction on.
#include <signal.h>
#include <string.h>

// What main does first comes after all libraries have started, which takes milliseconds; a HUP would end the process by
// then. The linker's list of functions that run before all others is as early as a program can be.
static void block_early_signals(int count, char **arguments, char **environment) {
  (void)environment;
  if (count < 2 || strcmp(arguments[1], "run") != 0) return;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  sigprocmask(SIG_BLOCK, &set, 0);
}

__attribute__((section(".preinit_array"), used)) static void (*const early_signals)(int, char **, char **) =
  block_early_signals;
