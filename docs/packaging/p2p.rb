# Homebrew. Put the address of a release's archive and its hash into url and sha256.
class P2p < Formula
  desc "Moves files straight between two machines over QUIC, verified and resumable"
  homepage "https://example.org/p2p"
  url "https://example.org/p2p/archive/v0.1.0.tar.gz"
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on "cmake" => :build
  depends_on "rust" => :build

  def install
    system "cargo", "install", *std_cargo_args(path: "daemon")
    system "cargo", "install", *std_cargo_args(path: "cli")
    system bin/"p2p", "man", "--dir", man1
    generate_completions_from_executable(bin/"p2p", "completions", shells: [:bash, :zsh, :fish])
  end

  def caveats
    "To run the daemon at login: p2p service install"
  end

  test do
    assert_match "it works", shell_output("#{bin}/p2p demo --size 1MiB 2>&1")
  end
end
