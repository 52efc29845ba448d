# Nix. Copy it to the root of a checkout, or call it with the tree as `src`.
{
  description = "Moves files straight between two machines over QUIC, verified and resumable";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ];
      each = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in {
      packages = each (pkgs: {
        default = pkgs.rustPlatform.buildRustPackage {
          pname = "p2p";
          version = "0.1.0";
          src = self;
          cargoLock.lockFile = ./Cargo.lock;
          cargoBuildFlags = [ "-p" "p2p-cli" "-p" "p2p-daemon" ];
          cargoTestFlags = [ "-p" "p2p-protocol" "-p" "p2p-cli" ];
          nativeBuildInputs = [ pkgs.cmake pkgs.installShellFiles ];
          postInstall = ''
            $out/bin/p2p man --dir man
            installManPage man/*.1
            for shell in bash zsh fish; do
              $out/bin/p2p completions $shell > p2p.$shell
            done
            installShellCompletion p2p.bash p2p.zsh p2p.fish
            install -Dm644 daemon/p2pd.service $out/lib/systemd/user/p2pd.service
            substituteInPlace $out/lib/systemd/user/p2pd.service --replace-fail /usr/bin/p2pd $out/bin/p2pd
          '';
          meta = {
            license = with pkgs.lib.licenses; [ mit asl20 ];
            mainProgram = "p2p";
          };
        };
      });
    };
}
