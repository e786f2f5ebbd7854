import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest

from graft.runs.termination import Terminated, clean_end_on_sigterm


def test_sigterm_unwinds_and_the_exit_code_says_so() -> None:
    with pytest.raises(Terminated, match="asked to end") as ended, clean_end_on_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_children_and_their_children_end_too() -> None:
    spawn = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); print('up', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", spawn], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    assert child.stdout.readline() == "up\n"
    (grandchild,) = psutil.Process(child.pid).children()
    with pytest.raises(Terminated), clean_end_on_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM
    grandchild.wait(10)
    child.stdout.close()


def test_a_thread_cannot_handle_signals() -> None:
    done = []

    def work() -> None:
        with clean_end_on_sigterm():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
