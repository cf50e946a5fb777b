// A 16550A serial port (National Semiconductor PC16550D data sheet).
//
// Transmission takes no time: a byte written leaves at once and the transmitter is empty again. The guest's
// console is then never the bottleneck, and nothing about the host's terminal can be seen in it.
#pragma once

#include <array>
#include <string>

#include "devices/byte_port_device.h"
#include "devices/io_bus.h"

namespace deja {

class Uart16550 final : public Device, public BytePortDevice {
 public:
  static constexpr unsigned kFifoSize = 16;

  struct State {
    u8 ier = 0, fcr = 0, lcr = 0, mcr = 0, scr = 0;
    u8 lsr = 0;  // overrun only; the other bits follow from the rest
    u8 msr = 0;  // delta bits in 3:0
    u16 divisor = 0;
    // Receiver: bytes with the LSR error bits that belong to them; without FIFO mode only one is used.
    u8 fifo_head = 0, fifo_count = 0;
    std::array<u8, kFifoSize> fifo_data{}, fifo_errors{};
    u8 received = 0;                 // what RBR reads when it is empty: the last byte
    bool thr_empty_pending = false;  // the THRE interrupt, until IIR shows it or THR is written
    VtimeNs timeout_at = kNeverNs;   // when the character timeout becomes due
    bool timeout_pending = false;
    bool irq = false;
  };

  // `on_transmit` gets every byte that leaves.
  Uart16550(std::string name, u16 base, const TimeSource& time, IrqLine irq,
            std::function<void(u8)> on_transmit);
  void attach(IoBus& bus);  // base .. base + 7

  std::string_view name() const override { return name_; }
  void reset() override;
  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;
  VtimeNs next_event() const override { return s_.timeout_at; }
  void advance(VtimeNs now) override;

  // How many bytes receive() can take now without an overrun. The caller keeps the rest.
  unsigned room() const;
  void receive(u8 byte);
  void receive_break();

  const State& state() const { return s_; }

 protected:
  u8 read_byte(u16 port) override;
  void write_byte(u16 port, u8 value) override;

 private:
  bool fifo_mode() const { return s_.fcr & 1; }
  bool loopback() const { return s_.mcr & 0x10; }
  unsigned capacity() const { return fifo_mode() ? kFifoSize : 1; }
  unsigned trigger_level() const;
  VtimeNs character_time() const;
  void push(u8 byte, u8 errors);
  void clear_receiver();
  u8 pop();
  u8 line_status() const;
  u8 modem_lines() const;
  void modem_lines_changed(u8 before);
  u8 interrupt_id() const;
  void transmit(u8 byte);
  void restart_timeout();
  void update_irq();

  const std::string name_;
  const u16 base_;
  const TimeSource& time_;
  const IrqLine irq_;
  const std::function<void(u8)> on_transmit_;
  State s_;
};

}  // namespace deja
