"""Linux asleep: what states there are, and the real-time clock's alarm that wakes it, recorded and replayed."""
import re
import unittest

from guest_session import Recorder, ReplayTest

# What rtcwake does: sets the alarm, then asks for the state. The text around is typed so that its echo does not match.
RTC = "/sys/class/rtc/rtc0"
SLEEP = "a=$(date +%s); echo +{seconds} >{rtc}/wakealarm && echo {state} >/sys/power/state; echo sle''pt $(($(date +%s)-a)) s\n"


class Sleep(ReplayTest):
    def start(self, *options):
        recorder = Recorder(self.recording, options=options)
        self.addCleanup(recorder.process.kill)
        return recorder, recorder.expect(b"demo# ")

    def sleep(self, recorder, at, state, seconds):
        recorder.type(SLEEP.format(rtc=RTC, state=state, seconds=seconds))
        end = recorder.expect(b" s\r\n", recorder.expect(b"slept ", at))
        slept = int(re.findall(rb"slept (\d+) s", recorder.output[at:end])[-1])
        self.assertIn(slept, (seconds, seconds + 1), recorder.output[at:end])
        return end

    def check_sleep(self, *options):
        recorder, at = self.start(*options)
        recorder.type("cat /sys/power/mem_sleep {0}/device/power/wakeup; echo sta''tes\n".format(RTC))
        at = recorder.expect(b"states", at)
        self.assertIn(b"[s2idle]\r\nenabled\r\n", recorder.output[:at])
        at = self.sleep(recorder, at, "freeze", 2)
        at = self.sleep(recorder, at, "mem", 1)  # the deepest there is: the same
        recorder.type("dmesg | grep -c 'PM: suspend exit'; echo al''ive\n")
        end = recorder.expect(b"alive", at)
        self.assertIn(b"\r\n2\r\n", recorder.output[at:end])
        self.power_off_and_verify(recorder, chaos=7)

    def test_the_alarm_wakes_a_machine(self):
        self.check_sleep()

    def test_the_alarm_wakes_two_cpus(self):
        self.check_sleep("-smp", "2")

    def test_hibernation_without_swap_is_refused_by_the_guest(self):
        recorder, at = self.start()
        recorder.type("echo disk >/sys/power/state; echo sta''tus $?\n")
        recorder.expect(b"status 1", at)
        self.power_off_and_verify(recorder)


if __name__ == "__main__":
    unittest.main()
